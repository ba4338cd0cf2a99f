// SPDX-License-Identifier: Apache-2.0

//go:build unix

package endtoend_test

import (
	"bytes"
	"cmp"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// update makes tests write the pictures of README.md.
var update = flag.Bool("update", false, "write the screenshots in docs/images")

// maxPicture is the size of a picture in README.md, in bytes, that nobody waits for.
const maxPicture = 60_000

// storeScreenshot stores a PNG of a page as an output of the test: in $M365COPILOT_SCREENSHOTS, or else in _build/screenshots.
func storeScreenshot(t *testing.T, p *page, name string) {
	t.Helper()
	dir := cmp.Or(os.Getenv("M365COPILOT_SCREENSHOTS"), filepath.Join(root, "_build", "screenshots"))
	require.NoError(t, os.MkdirAll(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, name+".png"), p.screenshot(t), 0o644))
}

// updatePicture writes a picture for README.md from a page, if -update is set.
func updatePicture(t *testing.T, p *page, name string) {
	t.Helper()
	if !*update {
		return
	}
	picture, err := png.Decode(bytes.NewReader(p.screenshot(t)))
	require.NoError(t, err)
	var file bytes.Buffer
	require.NoError(t, (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&file, withFewColors(picture, 64)))
	assert.Less(t, file.Len(), maxPicture)
	require.NoError(t, os.WriteFile(filepath.Join(root, "docs", "images", name+".png"), file.Bytes(), 0o644))
}

// withFewColors returns a picture with the n most frequent of its colors, which are enough for text and lines.
func withFewColors(picture image.Image, n int) image.Image {
	pixels := map[color.Color]int{}
	bounds := picture.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			pixels[picture.At(x, y)]++
		}
	}
	colors := slices.SortedFunc(maps.Keys(pixels), func(a, b color.Color) int {
		return cmp.Or(cmp.Compare(pixels[b], pixels[a]), compareColors(a, b))
	})
	few := image.NewPaletted(bounds, colors[:min(n, len(colors))])
	draw.Draw(few, bounds, picture, bounds.Min, draw.Src)
	return few
}

// compareColors orders colors of the same number of pixels, so that the same page gives the same picture.
func compareColors(a, b color.Color) int {
	ar, ag, ab, aa := a.RGBA()
	br, bg, bb, ba := b.RGBA()
	return slices.Compare([]uint32{ar, ag, ab, aa}, []uint32{br, bg, bb, ba})
}
