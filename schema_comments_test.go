// SPDX-License-Identifier: Apache-2.0

package m365copilotreceiver

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/confmap"
)

// docComments are the doc comments of the types of the configuration and of their fields, by names such as
// go.opentelemetry.io/collector/config/configtls.Config and the same with .CAFile.
type docComments map[string]string

// readDocComments reads those of this package and of the Collector's packages of settings.
func readDocComments(t *testing.T) docComments {
	t.Helper()
	packages := map[string]bool{}
	addPackages(reflect.TypeFor[Config](), packages)
	args := append([]string{"list", "-f", "{{.ImportPath}} {{.Dir}}"}, slices.Sorted(maps.Keys(packages))...)
	out, err := exec.CommandContext(t.Context(), "go", args...).Output()
	require.NoError(t, err)
	comments := docComments{}
	for line := range strings.Lines(string(out)) {
		pkg, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		require.NoError(t, err)
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.SkipObjectResolution)
			require.NoError(t, err)
			comments.add(pkg, file)
		}
	}
	return comments
}

// addPackages adds the packages of a section and of those in it.
func addPackages(section reflect.Type, packages map[string]bool) {
	packages[section.PkgPath()] = true
	for _, setting := range settingFields(section) {
		packages[setting.in.PkgPath()] = true
		inner := deref(setting.field.Type)
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if isSection(inner) {
			addPackages(inner, packages)
		}
	}
}

func (d docComments) add(pkg string, file *ast.File) {
	for _, decl := range file.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			named, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			name := pkg + "." + named.Name.Name
			d[name] = general.Doc.Text()
			if structure, ok := named.Type.(*ast.StructType); ok {
				for _, field := range structure.Fields.List {
					for _, ident := range field.Names {
						d[name+"."+ident.Name] = field.Doc.Text()
					}
				}
			}
		}
	}
}

// ofField describes a key by the comment of its field, or where that is a section of the receiver's own, by that of its type.
func (d docComments) ofField(structure reflect.Type, field reflect.StructField, key string) string {
	section, own := deref(field.Type), reflect.TypeFor[Config]().PkgPath()
	if text := d[typeName(section)]; section.Kind() == reflect.Struct && section.PkgPath() == own && text != "" {
		return sentence(text, section.Name(), key, section)
	}
	return sentence(d[typeName(structure)+"."+field.Name], field.Name, key, structure)
}

// ofElement describes an element of a list by the comment of its type.
func (d docComments) ofElement(element reflect.Type) string {
	return sentence(d[typeName(element)], element.Name(), "Each entry", element)
}

func typeName(t reflect.Type) string { return t.PkgPath() + "." + t.Name() }

// camel is a Go name of several words, which no prose has.
var camel = regexp.MustCompile(`\b[A-Z][a-z]+[A-Z]\w*`)

// sentence makes one line of a doc comment: the name that it begins with becomes the key, and so do names of fields.
func sentence(comment, name, key string, structure reflect.Type) string {
	text := strings.Join(strings.Fields(comment), " ")
	if rest, ok := strings.CutPrefix(text, name+" "); ok {
		text = key + " " + rest
	}
	text, _, _ = strings.Cut(text, " Unmarshal folds") // what follows is about the Collector's code
	return camel.ReplaceAllStringFunc(text, func(word string) string {
		if field, ok := structure.FieldByName(word); ok {
			word, _, _ = strings.Cut(field.Tag.Get(confmap.MapstructureTag), ",")
		}
		return word
	})
}
