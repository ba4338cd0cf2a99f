package interaction

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/net/html/atom"
)

// maxIndent bounds the indentation of lists inside lists.
const maxIndent = 16

// markupBuilder turns a run of HTML tags and texts into lines.
type markupBuilder struct {
	out    bytes.Buffer
	breaks int         // line breaks due before the next text, because of blocks
	asked  int         // and because of <br>
	mark   string      // what the next text starts with: the mark of a list item
	lists  []listState // the open ones
	pres   int         // open <pre> and <code>
	row    rowState
	cells  int // of this row so far
}

type listState struct {
	numbered bool
	next     int // the number of the next item
}

type rowState int

const (
	noRow    rowState = iota
	rowOpen           // nothing of it was written yet
	rowBegun          // it stays on this line
)

func (l *markupBuilder) String() string {
	return l.out.String()
}

func (l *markupBuilder) open(a atom.Atom, attributes map[string]string) {
	l.block(a)
	switch a {
	case atom.Br:
		l.asked++
	case atom.Ul:
		l.lists = append(l.lists, listState{})
	case atom.Ol:
		l.lists = append(l.lists, listState{numbered: true, next: integer(attributes["start"], 1)})
	case atom.Li:
		l.mark = l.nextMark(attributes["value"])
	case atom.Pre, atom.Code:
		l.pres++
	case atom.Tr:
		l.row, l.cells = rowOpen, 0
	case atom.Td, atom.Th:
		l.cell()
	}
}

func (l *markupBuilder) close(a atom.Atom) {
	switch a {
	case atom.Ul, atom.Ol:
		l.lists = l.lists[:max(len(l.lists)-1, 0)]
		l.mark = ""
	case atom.Li:
		l.mark = ""
	case atom.Pre, atom.Code:
		l.pres = max(l.pres-1, 0)
	case atom.Tr, atom.Table:
		l.row = noRow
	}
	l.block(a)
}

// block puts a distance to what was written before. Paragraphs inside a list don't stretch it.
func (l *markupBuilder) block(a atom.Atom) {
	breaks := distance(a)
	if len(l.lists) > 0 {
		breaks = min(breaks, 1)
	}
	l.breaks = max(l.breaks, breaks)
}

// cell parts a cell from the one before it.
func (l *markupBuilder) cell() {
	l.cells++
	if l.cells == 1 {
		return
	}
	if l.row == rowBegun {
		l.breaks, l.asked = 0, 0
		l.trim()
		l.out.WriteByte(' ')
	}
	l.inline("| ")
}

// nextMark is what the list item that starts here begins with. Its value is the number that it sets, or empty.
func (l *markupBuilder) nextMark(value string) string {
	depth := len(l.lists)
	if depth == 0 {
		return "- "
	}
	indent := strings.Repeat("  ", min(depth, maxIndent)-1)
	list := &l.lists[depth-1]
	if !list.numbered {
		return indent + "- "
	}
	number := integer(value, list.next)
	list.next = number + 1
	return indent + strconv.Itoa(number) + ". "
}

// integer reads an integer of 32 bits as HTML writes it; what is none is the other one.
func integer(s string, otherwise int) int {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return otherwise
	}
	return int(n)
}

// text writes the text between two tags.
func (l *markupBuilder) text(s string) {
	s = strings.ReplaceAll(s, "\u00a0", " ")
	if l.row != noRow {
		s = strings.ReplaceAll(s, "\n", " ")
	}
	if l.pres == 0 {
		s = oneSpace(s)
	}
	switch {
	case l.out.Len() == 0 || l.breaks > 0 || l.asked > 0 || l.mark != "":
		if l.pres > 0 { // the first line's indentation is meant, too
			s = strings.TrimPrefix(s, "\n")
		} else {
			s = strings.TrimLeft(s, " \t\n\f")
		}
	case l.pres == 0 && bytes.HasSuffix(l.out.Bytes(), []byte(" ")):
		s = strings.TrimLeft(s, " ")
	}
	if s != "" {
		l.inline(s)
	}
}

// inline writes the line breaks and the mark that are due, and then s as it is.
func (l *markupBuilder) inline(s string) {
	if breaks := min(max(l.breaks, l.asked), 2); breaks > 0 {
		l.trim()
		switch {
		case l.row == rowBegun:
			l.out.WriteByte(' ')
		case l.out.Len() > 0:
			l.out.WriteString("\n\n"[:breaks])
		}
	}
	l.out.WriteString(l.mark)
	l.out.WriteString(s)
	l.breaks, l.asked, l.mark = 0, 0, ""
	if l.row == rowOpen {
		l.row = rowBegun
	}
}

// trim takes the space off the end of what was written.
func (l *markupBuilder) trim() {
	l.out.Truncate(len(bytes.TrimRight(l.out.Bytes(), " \t\n\f")))
}

// oneSpace makes one space of each run of spaces and tabs inside a line. Those at the ends of a line stay, for they
// mean something in markdown.
func oneSpace(s string) string {
	if !strings.ContainsAny(s, "\t") && !strings.Contains(s, "  ") {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for start := 0; start < len(s); {
		end := start
		for end < len(s) && (s[end] == ' ' || s[end] == '\t') {
			end++
		}
		switch {
		case end == start:
			for end < len(s) && s[end] != ' ' && s[end] != '\t' {
				end++
			}
			b.WriteString(s[start:end])
		case start > 0 && s[start-1] == '\n', end < len(s) && s[end] == '\n':
			b.WriteString(s[start:end])
		default:
			b.WriteByte(' ')
		}
		start = end
	}
	return b.String()
}
