package graphtest

// style is how an app writes its interactions.
type style int

const (
	stylePlain   style = iota // answers in plain text, like the apps around a document
	styleCard                 // answers in an adaptive card, twice, like the chats
	styleTeams                // in a meeting
	styleExcel                // a card with JSON in it
	styleCowork               // no request id, Markdown called html
	styleNoFile               // a file that can't be named, like PowerPoint
	styleSparing              // everything that may be null is
)

// app is a source of interactions.
type app struct {
	class, conversation, bot string
	style                    style
	// share is how often it occurs in a deck.
	share int
}

const copilotClass = "IPM.SkypeTeams.Message.Copilot."

// apps are the application classes that Microsoft documents or that were seen in exports.
var apps = []app{
	{copilotClass + "BizChat", "bizchat", "Microsoft 365 Chat", styleCard, 12},
	{copilotClass + "WebChat", "webchat", "Copilot in WebChat", styleCard, 6},
	{copilotClass + "Teams", "appchat", "Copilot in Teams", styleTeams, 8},
	{copilotClass + "Word", "appchat", "Copilot in Word", stylePlain, 6},
	{copilotClass + "Excel", "appchat", "Copilot in Excel", styleExcel, 5},
	{copilotClass + "PowerPoint", "appchat", "Copilot in PowerPoint", styleNoFile, 4},
	{copilotClass + "Outlook", "appchat", "Copilot in Outlook", stylePlain, 6},
	{copilotClass + "OneNote", "appchat", "Copilot in OneNote", stylePlain, 2},
	{copilotClass + "CoworkChat", "coworkchat", "28:cowork-bot-1", styleCowork, 4},
	{copilotClass + "Loop", "appchat", "Copilot in Loop", stylePlain, 2},
	{copilotClass + "SharePoint", "appchat", "Copilot in SharePoint", styleCard, 2},
	{copilotClass + "Forms", "appchat", "Copilot in Forms", stylePlain, 1},
	{copilotClass + "Whiteboard", "appchat", "Copilot in Whiteboard", stylePlain, 1},
	{copilotClass + "PrivateChat", "bizchat", "Temporary Chat", styleCard, 1},
	{copilotClass + "VivaEngage", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "M365AdminCenter", "appchat", "Copilot in M365AdminCenter", styleCard, 1},
	{copilotClass + "OfficeCopilotSearchAnswer", "appchat", "Copilot in OfficeCopilotSearchAnswer", styleSparing, 1},
	{copilotClass + "OfficeCopilotNotebook", "appchat", "Copilot in OfficeCopilotNotebook", styleCard, 1},
	{copilotClass + "ThirdPartyCopilot", "bizchat", "Microsoft Copilot", styleSparing, 1},
	{copilotClass + "Office", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "M365App", "bizchat", "Microsoft 365 Chat", styleCard, 1},
	{copilotClass + "Planner", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "Stream", "appchat", "Microsoft Copilot", stylePlain, 1},
	{copilotClass + "Designer", "appchat", "Microsoft Copilot", styleSparing, 1},
	{copilotClass + "OneDrive", "appchat", "Microsoft Copilot", styleNoFile, 1},
	{"IPM.SkypeTeams.Message.ConnectedAIApp.Entra.3f6a1c52-7d7e-4c0b-9a53-0f2d8b6f4e11", "appchat", "Orion Assistant", stylePlain, 1},
}

func deck() []app {
	var cards []app
	for _, a := range apps {
		for range a.share {
			cards = append(cards, a)
		}
	}
	return cards
}

// subject is something to ask about and what comes back.
type subject struct {
	question, answer string
}

var subjects = []subject{
	{"List the open risks in the Orion plan", "Two risks are open: the supplier of the hinges has not confirmed, and the test rig is booked until Friday."},
	{"Summarize what changed since last week", "The budget moved to the second quarter and Lena took over the pilot in Graz."},
	{"Draft a friendly reminder about the travel receipts", "Hello everyone,\n\nplease hand in your receipts by **Thursday**. Thank you!"},
	{"Which of these numbers looks wrong?", "Row 14 stands out: 1,920 pieces at a price of 0.00 €."},
	{"Wie sage ich das höflicher? „Das ist falsch“", "Vielleicht so: „Das sehe ich etwas anders – darf ich erklären, weshalb?“"},
	{"Résume la réunion en trois points", "1. Le déménagement est fixé au 3 mai.\n2. Amélie prépare le plan.\n3. Les clés arrivent vendredi."},
	{"次の会議の議題を提案してください", "議題の案です:進捗の確認、課題の整理、次の一歩。"},
	{"اكتب ملخصا قصيرا", "هذا ملخص قصير: تمت الموافقة على الخطة وسيبدأ العمل يوم الأحد."},
	{"Give me five names for a garden robot 🤖🌱", "- Mossy\n- Clover 🍀\n- Digby\n- Petal\n- Sir Trims-a-lot"},
	{"Explain this: if a < b && b > c", "It is true where `b` is larger than both `a` and `c`. In a table:\n\n| a | b | c |\n|---|---|---|\n| 1 | 3 | 2 |"},
	{"Turn my notes into tasks", "Done. I made four tasks; the first is due tomorrow at 9:00."},
	{"What did the customer ask for? Their number is 555-0100 and the address is mara@example.com", "Mara asked for a second key and an invoice for room 12."},
}

var (
	files   = []string{"Orion plan.docx", "Garden robots.pptx", "Umzug – Zeitplan.xlsx", "Notes (final, really).docx", "予算.xlsx"}
	locales = []string{"en-us", "en-us", "en-us", "de-de", "fr-fr", "ja-jp", "en-gb"}
)
