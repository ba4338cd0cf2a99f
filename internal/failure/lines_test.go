// SPDX-License-Identifier: Apache-2.0

package failure_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// excused returns the functions whose lines need no code that this test can see, and why.
func excused() map[string]string {
	return map[string]string{
		"internal/backfill.reading.log": "its level is info or debug",
		"receiver.pipeline.warn":        "the errors of its callers have a failure",
	}
}

// Every line of level warn or error that the receiver can write has a code and a hint: its fields are those of a failure, or it
// is written by a health.Part, which has a code for errors without one.
func TestLines_HaveCodeAndHint(t *testing.T) {
	t.Parallel()
	root, needed := filepath.Join("..", ".."), map[string]bool{}
	skipped := []string{"cmd", "internal/doctor", "internal/graphtest", "internal/metadata", "internal/metadatatest", "internal/tools"}
	files := 0
	require.NoError(t, filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		name, err := filepath.Rel(root, file)
		require.NoError(t, err)
		name = filepath.ToSlash(name)
		if entry.IsDir() {
			if name != "." && strings.ContainsAny(entry.Name()[:1], "._") || entry.Name() == "testdata" || slices.Contains(skipped, name) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		files++
		for _, line := range linesWithoutCode(t, file, nil) {
			function := path.Join(path.Dir(path.Dir(name)), line.function)
			needed[function] = true
			assert.Contains(t, excused(), function, "%s:%d: %s", name, line.number, line.problem)
		}
		return nil
	}))
	assert.Greater(t, files, 80, "the packages of the receiver were not found")
	for function := range excused() {
		assert.True(t, needed[function], "%s needs no excuse", function)
	}
}

// codelessLine is a line of source that may log without a code.
type codelessLine struct {
	function string // package.Type.Method or package.Function
	number   int
	problem  string
}

// linesWithoutCode returns what of a file, or of source, may log a warning or an error without a code.
func linesWithoutCode(t *testing.T, name string, source any) []codelessLine {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.SkipObjectResolution)
	require.NoError(t, err)
	found, called := []codelessLine{}, map[ast.Node]bool{}
	for _, declared := range file.Decls {
		ast.Inspect(declared, func(n ast.Node) bool {
			problem := ""
			switch n := n.(type) {
			case *ast.CallExpr:
				called[n.Fun] = true
				problem = problemOfCall(file, n)
			case *ast.SelectorExpr:
				// Fields may have the name of the others.
				if (n.Sel.Name == "Warn" || n.Sel.Name == "DPanic") && !called[n] && !isPackage(file, n.X) {
					problem = "is not called here, so its fields can't be seen"
				}
			case *ast.CompositeLit:
				if isSelector(n.Type, "health", "Part") && !hasKey(n, "Code") {
					problem = "a health.Part without Code"
				}
			}
			if problem != "" {
				found = append(found, codelessLine{nameOf(file, declared), files.Position(n.Pos()).Line, problem})
			}
			return true
		})
	}
	return found
}

// loud returns the methods of a zap logger that may write a warning or an error and go on.
func loud() []string { return []string{"Warn", "Error", "DPanic", "Log"} }

func problemOfCall(file *ast.File, call *ast.CallExpr) string {
	method, ok := call.Fun.(*ast.SelectorExpr)
	switch {
	case !ok || isPackage(file, method.X):
		return ""
	case method.Sel.Name == "Sugar":
		return "a sugared logger, whose fields can't be seen"
	case !slices.Contains(loud(), method.Sel.Name) || len(call.Args) == 0: // error.Error has no arguments
		return ""
	case method.Sel.Name == "Log" && isQuiet(call.Args[0]):
		return ""
	}
	problem := "no fields of a failure"
	for _, argument := range call.Args {
		ast.Inspect(argument, func(n ast.Node) bool {
			fields, isCall := n.(*ast.CallExpr)
			if !isCall {
				return true
			}
			if method, ok := fields.Fun.(*ast.SelectorExpr); ok && method.Sel.Name == "Fields" && len(fields.Args) == 0 {
				if problem = ""; mayBeZero(method.X) {
					problem = "the error may have no failure: use WithDefault"
				}
			}
			return true
		})
	}
	return problem
}

// isQuiet reports whether a level is the constant for info or debug.
func isQuiet(level ast.Expr) bool {
	selector, ok := level.(*ast.SelectorExpr)
	return ok && (selector.Sel.Name == "InfoLevel" || selector.Sel.Name == "DebugLevel")
}

// mayBeZero reports whether an expression is failure.Of of an error that was given no failure there.
func mayBeZero(of ast.Expr) bool {
	call, ok := of.(*ast.CallExpr)
	if !ok || !isSelector(call.Fun, "failure", "Of") {
		return false
	}
	with, ok := call.Args[0].(*ast.CallExpr)
	return !ok || !isSelector(with.Fun, "failure", "WithDefault") && !isSelector(with.Fun, "failure", "With")
}

func isSelector(of ast.Expr, pkg, name string) bool {
	selector, ok := of.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// isPackage reports whether an expression is the name of an imported package.
func isPackage(file *ast.File, of ast.Expr) bool {
	x, ok := of.(*ast.Ident)
	return ok && slices.ContainsFunc(file.Imports, func(spec *ast.ImportSpec) bool {
		if spec.Name != nil {
			return spec.Name.Name == x.Name
		}
		imported, err := strconv.Unquote(spec.Path.Value)
		return err == nil && path.Base(imported) == x.Name
	})
}

func hasKey(literal *ast.CompositeLit, name string) bool {
	return slices.ContainsFunc(literal.Elts, func(element ast.Expr) bool {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		key, ok := pair.Key.(*ast.Ident)
		return ok && key.Name == name
	})
}

// nameOf returns the name of a declared function with its package and the type of its receiver.
func nameOf(file *ast.File, declared ast.Decl) string {
	function, ok := declared.(*ast.FuncDecl)
	if !ok {
		return file.Name.Name
	}
	name := function.Name.Name
	if function.Recv != nil {
		of := function.Recv.List[0].Type
		if pointer, ok := of.(*ast.StarExpr); ok {
			of = pointer.X
		}
		if generic, ok := of.(*ast.IndexExpr); ok {
			of = generic.X
		}
		name = fmt.Sprintf("%s.%s", of, name)
	}
	return file.Name.Name + "." + name
}

// What is marked must be found, and nothing else.
func TestLines_PlantedOnesAreFound(t *testing.T) {
	t.Parallel()
	const source = `package planted

import (
	"net/http"

	"go.uber.org/zap"

	"github.com/otelcopilot/m365copilotreceiver/internal/failure"
	"github.com/otelcopilot/m365copilotreceiver/internal/health"
)

func (p *part) save(w http.ResponseWriter, err error) {
	p.logger.Warn("plain") // found
	p.s.Logger.Error("with an error", zap.Error(err)) // found
	logger().DPanic("of a function", append(p.fields(), zap.Error(err))...) // found
	p.logger.Log(level, "with a variable level", fields...) // found
	p.logger.Log(zap.WarnLevel, "with a level", fields...) // found
	p.logger.Warn("maybe", append(failure.Of(err).Fields(), zap.Error(err))...) // found
	p.logger.Sugar().Warnf("sugared") // found
	warn := p.logger.Warn // found
	go func() { p.logger.Warn("nested") }() // found
	p.health = health.Part{Logger: p.logger, Failing: "fails"} // found

	p.logger.Warn("with a code", failure.New(failure.StorageFailing).Fields()...)
	p.logger.Warn("with a default", append(failure.Of(failure.WithDefault(err, code)).Fields(), zap.Error(err))...)
	p.logger.Log(level, "with a failure", append(fields, reason.Fields()...)...)
	p.logger.Log(zap.InfoLevel, "quiet", fields...)
	p.logger.Info("quiet", zap.String("error", err.Error()))
	p.health = health.Part{Logger: p.logger, Failing: "fails", Code: failure.StorageFailing}
	http.Error(w, "not a logger", http.StatusBadRequest)
}
`
	var want, found []int
	for i, line := range strings.Split(source, "\n") {
		if strings.HasSuffix(line, "// found") {
			want = append(want, i+1)
		}
	}
	for _, line := range linesWithoutCode(t, "planted.go", source) {
		assert.Equal(t, "planted.part.save", line.function)
		found = append(found, line.number)
	}
	assert.Equal(t, want, found)
}
