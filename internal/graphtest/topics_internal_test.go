// SPDX-License-Identifier: Apache-2.0

package graphtest

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// eachTopic returns the topics of people and of agents.
func eachTopic() []topic {
	all := slices.Clone(topics)
	for _, a := range agents {
		all = append(all, a.topics...)
	}
	return all
}

func newParts(rng *rand.Rand) *parts {
	return &parts{rng: rng, values: map[string]string{"file": "a.docx"}}
}

// A prompt that repeats looks as if deduplication had failed.
func TestTopics_EachHasManyTexts(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	for _, one := range eachTopic() {
		if strings.Contains(one.question, "${file}") {
			continue // its variety is that of files
		}
		texts := map[string]bool{}
		for range 200 {
			texts[newParts(rng).fill(one.question)] = true
		}
		assert.Greater(t, len(texts), 50, one.question)
	}
}

func TestTopics_AllPartsAreKnown(t *testing.T) {
	t.Parallel()
	all := slices.Clone(files)
	for _, sentences := range details {
		all = append(all, sentences...)
	}
	for _, one := range eachTopic() {
		all = append(all, one.question, one.answer)
	}
	for _, text := range all {
		assert.NotPanics(t, func() {
			assert.NotContains(t, newParts(rand.New(rand.NewPCG(1, 1))).fill(text), "$", text)
		}, text)
	}
}

func TestTopics_QuestionAndAnswerAgree(t *testing.T) {
	t.Parallel()
	same := newParts(rand.New(rand.NewPCG(1, 1)))
	question := same.fill("${project} of ${person}, ${mail}")
	answer := same.fill("${project} of ${person}, ${mail}")
	assert.Equal(t, question, answer)
	assert.Equal(t, strings.ToLower(same.fill("${person}")), same.fill("${mail}"))
}

// There is something to write about for everybody everywhere.
func TestTopics_FitEachLanguageDepartmentAndApp(t *testing.T) {
	t.Parallel()
	for _, d := range append(departments, department{}) {
		for _, a := range apps {
			for _, language := range []string{"en", "de", "fr", "ja", "ar"} {
				assert.NotEmpty(t, fittingTopics(language, d.name, a.name()), "%s %s %s", language, d.name, a.name())
				assert.NotEmpty(t, details[language])
			}
		}
		assert.NotEmpty(t, agentsOf(d.name))
	}
}
