// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
)

// topic is the text of a prompt and of its answer. A part such as ${project} differs from turn to turn and is the same in both.
type topic struct {
	language string
	// department and app are those of the users and the app that it fits; empty: any.
	department, app  string
	question, answer string
}

// fits reports whether the topic fits a user of the department in the app. An empty language or department fits all topics.
func (t topic) fits(language, department, app string) bool {
	return (language == "" || t.language == language) &&
		(department == "" || t.department == "" || t.department == department) &&
		(t.app == "" || t.app == app)
}

// fittingTopics returns the topics that fit; the arguments are those of topic.fits.
func fittingTopics(language, department, app string) []topic {
	var fitting []topic
	for _, t := range topics {
		if t.fits(language, department, app) {
			fitting = append(fitting, t)
		}
	}
	return fitting
}

// parts holds the parts of the texts of one turn, so that question and answer agree.
type parts struct {
	rng    *rand.Rand
	values map[string]string
}

// fill replaces the parts of a text.
func (p *parts) fill(text string) string { return os.Expand(text, p.value) }

func (p *parts) value(name string) string {
	value, known := p.values[name]
	if !known {
		value = p.draw(name)
		p.values[name] = value
	}
	return value
}

// draw returns a random part.
func (p *parts) draw(name string) string {
	switch name {
	case "n":
		return strconv.Itoa(3 + p.rng.IntN(37))
	case "few":
		return strconv.Itoa(3 + p.rng.IntN(5))
	case "nn":
		return fmt.Sprintf("%02d", p.rng.IntN(100))
	case "percent":
		return strconv.Itoa(2 + p.rng.IntN(48))
	case "amount":
		return fmt.Sprintf("%d,%03d", 1+p.rng.IntN(90), p.rng.IntN(1000))
	case "number":
		return strconv.Itoa(10_000 + p.rng.IntN(90_000))
	case "mail":
		return strings.ToLower(p.value("person"))
	}
	words, known := vocabulary[name]
	if !known {
		panic("graphtest: no words for " + name)
	}
	return choose(p.rng, words)
}

// details returns least to most further sentences of an answer, with spaces between them.
func (p *parts) details(language string, least, most int) string {
	all := details[language]
	var sentences []string
	for _, i := range p.rng.Perm(len(all))[:least+p.rng.IntN(most-least+1)] {
		sentences = append(sentences, p.fill(all[i]))
	}
	return strings.Join(sentences, " ")
}

var vocabulary = map[string][]string{
	"project": {
		"Orion", "Heron", "Juniper", "Cobalt", "Lantern", "Meadow", "Falcon", "Tundra", "Saffron", "Beacon", "Willow", "Granite", "Harbor",
		"Nimbus", "Pioneer", "Quartz", "Riverbend", "Sequoia", "Topaz", "Vega", "Zephyr", "Acorn", "Basalt", "Cypress",
	},
	"person": {
		"Mara", "Lena", "Ben", "Priya", "Hiro", "Carla", "Noah", "Olga", "Viktor", "Wanda", "Yusuf", "Elif", "Farah", "Greta", "Keiko", "Rosa",
	},
	"colleague": {
		"Amélie", "Dmitri", "Inés", "Jürgen", "Quentin", "Søren", "Tomás", "Uma", "Zoë", "Adele", "Bruno", "Chiara", "Emil", "Fiona", "Goran",
	},
	"customer": {
		"Northwind", "Fabrikam", "Tailspin", "Adventure Works", "Wingtip", "Woodgrove", "Litware", "Proseware", "Trey Research", "Lucerne",
		"Alpine Ski House", "Bellows College", "Coho Vineyard", "Fourth Coffee", "Munson's", "Relecloud",
	},
	"product":   {"MossBot 3", "HedgeBot", "LeafLift", "RakeMate", "PondPal", "SnowMole", "SeedSower 2", "VineGuard", "MossBot Mini", "TrimTom"},
	"component": {"blade guard", "battery pack", "charging dock", "rain sensor", "drive belt", "hinge", "control board", "wheel hub", "camera"},
	"city":      {"Graz", "München", "Lyon", "Leeds", "Austin", "大阪", "Linz", "Nantes", "York", "Dallas", "Bremen", "Nagoya"},
	"thing": {
		"second key", "new contract", "spare battery", "later delivery", "site visit", "longer warranty", "training day", "quote in writing",
	},
	"weekday":    {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"},
	"weekday_de": {"Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag"},
	"weekday_fr": {"lundi", "mardi", "mercredi", "jeudi", "vendredi"},
	"weekday_ja": {"月曜日", "火曜日", "水曜日", "木曜日", "金曜日"},
	"month": {
		"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December",
	},
	"month_de": {"Jänner", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember"},
	"month_fr": {"janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre", "novembre", "décembre"},
	"quarter":  {"first quarter", "second quarter", "third quarter", "fourth quarter"},
	"chore":    {"mows at night", "trims hedges", "waters roses", "sweeps leaves", "chases moles", "shovels snow", "counts bees", "prunes vines"},
	"tone":     {"friendly", "short", "formal", "firm but kind", "cheerful", "polite", "matter-of-fact"},
	"name":     {"Mossy", "Digby", "Petal", "Bramble", "Thistle", "Pip", "Basil", "Rusty", "Sage", "Acorn", "Fern", "Sprout"},
	"system":   {"VPN", "printer", "badge reader", "test rig", "ticket queue", "build server", "meeting room display", "expense form"},
}

// details are what an answer may say besides.
var details = map[string][]string{
	"en": {
		"${person} has confirmed this on ${weekday}.", "The source is ${file}, last changed in ${month}.",
		"Two figures differ by ${percent} %, please check them.",
		"I can turn this into a table if you like.", "${colleague} still has to agree.", "For ${customer} the date is one week later.",
		"The ${component} is the only item without an owner.", "Compared with ${month}, that is ${percent} % more.",
		"The numbers for ${city} are missing.", "Would you like a shorter version for ${person}?",
	},
	"de": {
		"${person} hat das am ${weekday_de} bestätigt.", "Die Quelle ist ${file}.", "Zwei Werte weichen um ${percent} % voneinander ab.",
		"Für ${city} fehlen die Zahlen noch.", "${colleague} muss noch zustimmen.", "Soll ich daraus eine Tabelle machen?",
	},
	"fr": {
		"${person} l’a confirmé ${weekday_fr}.", "La source est ${file}.", "Il manque les chiffres de ${city}.",
		"${colleague} doit encore donner son accord.",
		"Voulez-vous une version plus courte ?", "C’est ${percent} % de plus qu’en ${month_fr}.",
	},
	"ja": {
		"${weekday_ja}に${person}さんが確認しました。", "出典は${file}です。", "${city}の数字はまだありません。", "前月より${percent}%増えています。",
		"表にまとめることもできます。", "${colleague}さんの承認が必要です。",
	},
	"ar": {"أكد ${person} ذلك.", "المصدر هو ${file}.", "ما زالت أرقام ${city} ناقصة.", "يجب أن يوافق ${colleague} أيضا."},
}

// topics are invented. Some have what tools may stumble over: addresses, telephone numbers, markup, emoji, other scripts.
var topics = []topic{
	// for everybody
	{
		"en", "", "", "List the open risks in the ${project} plan for ${customer}",
		"Two risks are open: the supplier of the ${component} has not confirmed, and the test rig is booked until ${weekday}.",
	},
	{
		"en", "", "", "Summarize what changed in ${project} since ${weekday}",
		"The budget moved to the ${quarter} and ${person} took over the pilot in ${city}.",
	},
	{
		"en", "", "", "Draft a ${tone} reminder to ${person} about the ${month} travel receipts",
		"Hello everyone,\n\nplease hand in your receipts for ${month} by **${weekday}**. Thank you!",
	},
	{
		"en", "", "", "Give me ${few} names for a garden robot that ${chore}, with ${name} among them 🤖🌱",
		"- ${name} 🍀\n- Clover\n- Sir Trims-a-lot\n- Number ${n}",
	},
	{
		"en", "", "", "Explain this: if a < b && b > c, with a = ${n} and c = ${percent}",
		"It is true where `b` is larger than both `a` and `c`. In a table:\n\n| a | b | c |\n|---|---|---|\n| ${n} | 99 | ${percent} |",
	},
	{
		"en", "", "", "Turn my notes of ${weekday} about ${project} into tasks",
		"Done. I made ${few} tasks; the first is due ${weekday} at 9:00 and belongs to ${person}.",
	},
	{
		"en", "", "", "What did the customer ask for? Their number is 555-01${nn} and the address is ${mail}@example.com",
		"${person} asked for a ${thing} and an invoice for room ${n}.",
	},
	{
		"en", "", "", "What did I promise ${person} about ${project}?",
		"On ${weekday} you wrote that the ${thing} would be ready by the end of ${month}.",
	},
	{
		"en", "", "", "Who in ${city} knows about the ${component} of ${product}?",
		"${colleague} wrote most of the pages about it; ${person} has ordered it since ${month}.",
	},
	{
		"en", "", "", "Make this paragraph about ${product} sound ${tone}, for ${customer}",
		"Here is a ${tone} version:\n\n> ${product} learns your garden in ${few} days and leaves the daisies alone.",
	},
	{
		"en", "", "", "Find the latest version of ${file} and tell me who changed it",
		"${person} saved ${file} last, on ${weekday}, and added a page about ${project}.",
	},
	{
		"en", "", "", "Prepare me for the ${weekday} meeting with ${colleague} about ${project}",
		"You last spoke about ${project}. Open points: the ${component}, the date in ${month}, and the ${thing}.",
	},
	{
		"en", "", "Teams", "What did I miss in the first ${n} minutes about ${project}?",
		"${colleague} presented the plan of ${project}. ${person} asked who pays for the ${component}.",
	},
	{
		"en", "", "Teams", "List the decisions about ${project} and ${customer}, and who has to act",
		"1. ${person} orders the ${component}.\n2. ${colleague} informs ${customer} by ${weekday}.\n3. The next meeting is in ${month}.",
	},
	{
		"en", "", "Outlook", "Summarize the thread about the ${thing} for ${customer}",
		"${customer} asked twice; ${person} answered on ${weekday}. It is your turn.",
	},
	{
		"en", "", "Outlook", "Write a ${tone} answer: we can deliver ${product} in ${month} at the earliest",
		"Dear ${person},\n\nthank you for your patience. The earliest date for ${product} is in ${month}.\n\nKind regards",
	},
	{
		"en", "", "Excel", "Which of the numbers of ${project} in row ${n} and below looks wrong?",
		"Row ${percent} stands out: ${amount} pieces at a price of 0.00 €.",
	},
	{
		"en", "", "Excel", "Add a column with the change of ${product} since ${month} in percent",
		"I added the column. The largest change is ${percent} %, for ${product}.",
	},
	{
		"en", "", "PowerPoint", "Make ${few} slides about ${product} for ${customer}",
		"I made ${few} slides: the garden today, what ${product} does, a price from ${amount} €, and the next steps.",
	},
	{
		"en", "", "Word", "Shorten the chapter about the ${component} to ${n} lines",
		"Here is a shorter version. I left out the history and kept the figures for ${product}.",
	},

	// by department
	{
		"en", "Engineering", "", "Why does the ${component} of ${product} fail at ${n} degrees?",
		"The report of ${month} names the seal: it hardens below that temperature. ${person} suggests another supplier.",
	},
	{
		"en", "Engineering", "", "Review this interface: type Blade[T any] struct { Speed <-chan T; Max int } // ticket ${number}",
		"The channel is receive-only, so `Blade` can't be tested without a producer. Pass a function of `T` instead, as ticket ${number} says.",
	},
	{
		"en", "Engineering", "", "Which tests of ${project} failed more than ${few} times in ${month}?",
		"Three: the one of the ${component}, the one of the radio, and the climb test in ${city}.",
	},
	{
		"en", "Engineering", "Word", "Write the test report of ${product}, run ${number}",
		"# Test report ${number}\n\n${product} ran for ${n} hours. The ${component} stayed within its limits. One stop was manual.",
	},
	{
		"en", "Engineering", "", "Compare the ${component} of ${product} with that of last year",
		"It is ${percent} % lighter and costs ${few} € more. The connector is the same.",
	},
	{"en", "Sales", "", "What does ${customer} pay for ${product} today?", "${amount} € a year for ${n} units, until the end of ${month}."},
	{
		"en", "Sales", "", "Which offers to ${customer} are older than ${n} days?",
		"Two: one for ${product}, ${amount} €, and one for a ${thing}. ${person} sent both.",
	},
	{
		"en", "Sales", "Outlook", "Write a ${tone} mail to ${customer} after our demo of ${product} on ${weekday}",
		"Dear ${person},\n\nthank you for the hour on ${weekday}. As agreed, you get the ${thing} before the end of ${month}.\n\nKind regards",
	},
	{
		"en", "Sales", "PowerPoint", "Turn the offer of ${amount} € for ${customer} into a pitch",
		"I made a pitch with ${few} slides. The price is on the last one; the second shows the savings of ${percent} %.",
	},
	{
		"en", "Sales", "", "Who are the decision makers at ${customer} in ${city}?",
		"${person} signs, ${colleague} recommends. The last contact was on ${weekday}.",
	},
	{
		"en", "Operations", "", "Which deliveries of the ${component} to ${city} are late?",
		"Two pallets, expected on ${weekday}. The carrier names ${month} ${few} as the new date.",
	},
	{
		"en", "Operations", "", "How many ${product} can we build in ${month}?",
		"With two shifts ${amount}; the ${component} is the bottleneck at ${percent} % of the plan.",
	},
	{
		"en", "Operations", "Excel", "Plan the shifts in ${city} for the week of ${month} ${few}",
		"The plan is in the new sheet. ${person} has ${few} late shifts, and ${weekday} lacks one person.",
	},
	{
		"en", "Operations", "", "Write a checklist for the maintenance of line ${nn} in ${city}",
		"1. Stop the line.\n2. Check the ${component}.\n3. Note the hours (last: ${amount}).\n4. Tell ${person}.",
	},
	{
		"en", "Customer Service", "", "Summarize ticket ${number} of ${customer}",
		"${person} reports that ${product} stops after ${n} minutes. The ${component} was replaced in ${month}.",
	},
	{
		"en", "Customer Service", "", "Which known problem does ticket ${number} look like?",
		"It resembles the one with the ${component} in ${month}: the update of ${weekday} solves it.",
	},
	{
		"en", "Customer Service", "Outlook", "Answer ${person} in a ${tone} way: the ${component} is out of stock until ${month}",
		"Dear ${person},\n\nwe are sorry: the ${component} comes back in ${month}. Until then we lend you one.\n\nKind regards",
	},
	{
		"en", "Customer Service", "", "How many calls about ${product} did we get in ${month}?",
		"${amount}, that is ${percent} % more than before. Most were about the ${component}.",
	},
	{
		"en", "Finance", "Excel", "Why is the total of ${month} ${amount} € higher than the plan?",
		"Freight is ${percent} % above plan, and the invoice of ${customer} is booked twice, in rows ${n} and ${number}.",
	},
	{
		"en", "Finance", "Excel", "Write a formula for the average without the top ${few} in C2:C${number}",
		"`=TRIMMEAN(C2:C${number}, 0.${nn})`, or filter rows whose rank is <= ${few} first.",
	},
	{
		"en", "Finance", "", "Explain the deviation of ${percent} % in cost center ${number}",
		"Most of it is the ${thing} for ${customer}, booked in ${month} instead of the ${quarter}.",
	},
	{
		"en", "Finance", "", "Which invoices of ${customer} are overdue since ${month}?",
		"Three, of ${amount} € in total. ${person} sent the last reminder on ${weekday}.",
	},
	{
		"en", "Finance", "PowerPoint", "Make a slide with the cash flow of ${project} in the ${quarter}, for ${person}",
		"The slide shows ${amount} € at the end of ${month}, ${percent} % below the forecast of ${city}.",
	},
	{
		"en", "Human Resources", "", "Write a job advertisement for a technician in ${city}, start in ${month}",
		"**Technician (${city})**\n\nYou like gardens and gears. From ${month} you look after ${product}, in a team of ${n}.",
	},
	{
		"en", "Human Resources", "", "Which questions should I ask the candidate from ${city} for ${project}?",
		"Ask about the ${component}, about a project that failed, and what a good ${weekday} looks like.",
	},
	{
		"en", "Human Resources", "Word", "Draft a ${tone} welcome letter for ${person}, first day ${weekday}",
		"Dear ${person},\n\nwelcome to Contoso Robotics! On ${weekday} ${colleague} meets you at the reception in ${city}.",
	},
	{
		"en", "Human Resources", "", "Summarize the ${n} comments of the ${month} survey in ${city}",
		"People like the team and the canteen. ${percent} % want clearer priorities in ${project}.",
	},
	{
		"en", "Marketing", "", "Write ${few} headlines for the launch of ${product} in ${month}",
		"- Your garden called. ${product} answered.\n- Less mowing, more ${month}.\n- Meet ${name}, the robot with roots 🌻",
	},
	{
		"en", "Marketing", "", "Adapt the text about ${product} to readers in ${city}",
		"I shortened it, replaced the rain by local weather and mention ${customer} as a reference.",
	},
	{
		"en", "Marketing", "PowerPoint", "Make a campaign plan of ${few} slides for ${project}, budget ${amount} €",
		"The plan has a goal, the audience in ${city}, the channels, and the dates until ${month}.",
	},
	{
		"en", "Marketing", "Designer", "A banner with ${name} the hedgehog and ${product} in ${city}",
		"Here are ${few} drafts. The second has the logo of ${project}.",
	},
	{
		"en", "Legal & Compliance", "", "Which clauses of the contract with ${customer} end in ${month}?",
		"Clause ${n} (warranty) and the annex about the ${thing}. Notice is due by ${weekday}.",
	},
	{
		"en", "Legal & Compliance", "Word", "Compare clause ${n} with our template and list the differences for ${customer}",
		"The liability is ${percent} % higher, the notice is ${few} months, and the court is in ${city}.",
	},
	{
		"en", "Legal & Compliance", "", "Does the camera of ${product} need an impact assessment in ${city}?",
		"Probably yes: it films beyond the garden. The assessment of ${month} for ${project} can be reused.",
	},
	{
		"en", "Legal & Compliance", "", "Summarize the opinion about ${customer} on ${n} pages",
		"The claim is weak: the ${component} was accepted in ${month}. ${colleague} advises to settle below ${amount} €.",
	},

	// in other languages
	{
		"de", "", "", "Wie sage ich ${colleague} höflicher: „Das mit ${project} ist falsch“?",
		"Vielleicht so: „Das sehe ich bei ${project} etwas anders – darf ich bis ${weekday_de} erklären, weshalb?“",
	},
	{
		"de", "", "", "Fasse zusammen, was sich seit ${weekday_de} bei ${project} geändert hat",
		"Das Budget liegt jetzt bei ${amount} €, und ${person} übernimmt den Test in ${city}.",
	},
	{
		"de", "", "", "Schreib eine kurze Einladung zum Treffen über ${product} im ${month_de}",
		"Hallo zusammen,\n\nwir sprechen am ${weekday_de} über ${product}. Bitte bringt eure Fragen mit!",
	},
	{
		"de", "", "", "Welche Aufgaben hat ${person} in ${project} noch offen?",
		"Drei: den Liefertermin, die Freigabe durch ${colleague} und das Protokoll vom ${weekday_de}.",
	},
	{
		"de", "", "Outlook", "Antworte ${customer} freundlich, dass ${product} erst im ${month_de} kommt",
		"Guten Tag ${person},\n\nleider können wir ${product} erst im ${month_de} liefern.\n\nMit freundlichen Grüßen",
	},
	{
		"de", "", "Teams", "Was wurde in den ersten ${n} Minuten zu ${project} beschlossen?",
		"${colleague} informiert ${customer}, ${person} bestellt die Teile bis ${weekday_de}.",
	},
	{
		"de", "Finance", "Excel", "Warum weicht ${month_de} um ${percent} % vom Plan ab?",
		"Die Fracht ist höher, und die Rechnung ${number} von ${customer} ist doppelt gebucht.",
	},
	{
		"de", "Engineering", "", "Erkläre den Fehler ${number} von ${product} bei Regen",
		"Der Sensor meldet Nässe, bevor das Dach schließt. Ein Filter von ${n} Sekunden hilft.",
	},
	{
		"de", "Sales", "", "Stell die letzten Angebote an ${customer} bis ${month_de} zusammen",
		"Es sind zwei: ${product} für ${amount} € und die Wartung. Beide hat ${person} verschickt.",
	},
	{
		"de", "Operations", "", "Welche Lieferungen nach ${city} kommen im ${month_de} zu spät?",
		"Zwei Paletten für ${product}; neuer Termin ist ${weekday_de}.",
	},
	{
		"fr", "", "", "Résume la réunion de ${weekday_fr} sur ${project} en trois points",
		"1. Le déménagement à ${city} est fixé au ${few} ${month_fr}.\n2. ${colleague} prépare le plan.\n3. Les clés arrivent ${weekday_fr}.",
	},
	{
		"fr", "", "", "Qu’est-ce qui a changé dans ${project} depuis ${month_fr} ?",
		"Le budget passe à ${amount} € et ${person} dirige le pilote à ${city}.",
	},
	{
		"fr", "", "", "Rédige un rappel aimable à ${colleague} pour les reçus de ${month_fr}",
		"Bonjour ${colleague},\n\nmerci d’envoyer vos reçus avant ${weekday_fr} !",
	},
	{
		"fr", "", "", "Propose ${few} questions à poser à ${customer} sur ${product}",
		"Demandez la surface du jardin, le nombre d’heures par semaine et la date souhaitée en ${month_fr}.",
	},
	{
		"fr", "", "Outlook", "Réponds à ${person} que ${product} arrive en ${month_fr}",
		"Bonjour ${person},\n\n${product} sera livré en ${month_fr}. Merci de votre patience.\n\nCordialement",
	},
	{
		"fr", "Finance", "Excel", "Pourquoi la ligne ${n} de ${month_fr} dépasse-t-elle ${amount} € ?",
		"La facture ${number} de ${customer} y figure deux fois.",
	},
	{"ja", "", "", "${project}の次の会議(${weekday_ja})の議題を${few}つ提案してください", "議題の案です:${product}の進捗の確認、${customer}の課題の整理、次の一歩。"},
	{"ja", "", "", "${customer}への${product}の見積もりを要約してください", "合計は${amount}ユーロ、納期は${weekday_ja}です。担当は${person}さんです。"},
	{"ja", "", "", "${weekday_ja}から${project}で何が変わりましたか", "予算が${percent}%増え、${city}での試験は${colleague}さんが担当します。"},
	{"ja", "", "", "${person}さんに${product}の遅れを丁寧に伝える文を書いてください", "${person}様\n\n誠に申し訳ございませんが、${product}のお届けは${weekday_ja}になります。"},
	{"ja", "", "Excel", "${n}行目から${percent}行目までの合計を説明してください", "合計は${amount}です。${product}が最も大きい値です。"},
	{
		"ar", "", "", "اكتب ملخصا قصيرا عن ${project} و${product}",
		"هذا ملخص قصير: تمت الموافقة على خطة ${project} وسيبدأ العمل في ${city} يوم الأحد.",
	},
}

// files are the names of the files in which users work.
var files = []string{
	"${project} plan.docx", "${project} budget.xlsx", "${project} review.pptx", "${customer} offer.docx", "Garden robots ${nn}.pptx",
	"Umzug – Zeitplan.xlsx", "Notes (final, really).docx", "予算 ${project}.xlsx", "Minutes of ${weekday}.docx", "${product} test ${number}.xlsx",
}

// agent is an agent that users call with @.
type agent struct {
	id, name string
	// department is that of its users; empty: all.
	department string
	topics     []topic
}

var agents = []agent{
	{"4c1f7d20-8b3e-4f6a-9d51-2a7be0c3d911", "HR Helper", "", []topic{
		{
			question: "how many days of leave do I have left in ${month}, after the ${n} hours of overtime?",
			answer:   "You have ${n} days left. A request for ${month} needs the consent of ${person}.",
		},
		{
			question: "what does the policy say about working from ${city} for ${few} weeks in ${month}?",
			answer:   "Up to ${n} days a year are allowed. Tell ${colleague} before the ${few}th of ${month}.",
		},
		{
			question: "who approves my training about the ${component} in ${month}?",
			answer:   "Your manager, and ${person} above ${amount} €.",
		},
	}},
	{"9e02b6a4-17cd-4b88-8f3a-6d5c40e1f722", "IT Service Desk", "", []topic{
		{
			question: "the ${system} in ${city} has shown error ${number} since ${weekday}",
			answer:   "I opened ticket ${number}. Please restart the ${system} and wait ${n} minutes.",
		},
		{
			question: "I need access to the site of ${project} until ${month}",
			answer:   "The owner is ${colleague}. I asked for your access; it ends in ${month}.",
		},
		{
			question: "how do I connect to the ${system} when I am in ${city}?",
			answer:   "Use the profile ${project}-${nn}. The guide has ${few} steps.",
		},
	}},
	{"b7d85f13-62a9-4e0c-a4b7-81f3c92d0e33", "Sales Coach", "Sales", []topic{
		{
			question: "how do I answer ${customer}, who finds ${product} ${percent} % too expensive?",
			answer:   "Ask what a season without it costs. At ${n} hours of work saved a month it pays after ${few} months.",
		},
		{
			question: "rate my pitch for ${customer} on ${weekday}",
			answer:   "Good: the story of ${name}. Missing: the price, and why ${product} needs ${few} days of training.",
		},
		{
			question: "which deals above ${amount} € should I call about on ${weekday}?",
			answer:   "Start with ${customer}: nobody has answered ${person} for ${n} days.",
		},
	}},
	{"2d9a4c68-f0b1-47e5-9c26-5e8b17d3a444", "Ledger Assistant", "Finance", []topic{
		{question: "is invoice ${number} of ${customer} paid?", answer: "Yes, on ${weekday}, with a discount of ${few} %."},
		{
			question: "post ${amount} € for the ${thing} to cost center ${number}",
			answer:   "I prepared the posting. ${person} has to release it by ${weekday}.",
		},
	}},
	{"61e3f8b5-9a74-4c2d-b0e8-3f7d25a6c555", "Build Doctor", "Engineering", []topic{
		{
			question: "why is build ${number} of ${project} red?",
			answer:   "The test of the ${component} exceeded ${n} seconds. It did so ${few} times since ${weekday}.",
		},
		{
			question: "who changed the driver of the ${component} of ${product} before ${weekday}?",
			answer:   "${person}, in change ${number}. ${colleague} reviewed it.",
		},
	}},
}

// agentsOf returns the agents of a department.
func agentsOf(department string) []agent {
	var known []agent
	for _, a := range agents {
		if a.department == "" || a.department == department {
			known = append(known, a)
		}
	}
	return known
}
