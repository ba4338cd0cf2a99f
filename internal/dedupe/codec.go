package dedupe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// storedSegment is one value in the store. Its form, with big-endian numbers:
//
//	version (1 byte), CRC-32C of what follows (4), number (8), reference (8), then for each record at (4), key (16), signature (16)
type storedSegment struct {
	// number orders the pages of a kind.
	number uint64
	// reference of a chunk says that the segments up to this number are contained in this chunk and those before it.
	// That of a segment is the number of the oldest chunk when it was written.
	reference uint64
	records   []record
}

const (
	version    = 1
	headerSize = 1 + 4 + 8 + 8
	recordSize = 4 + 16 + 16
)

// The reasons why a value can't be read.
var (
	errMissing = errors.New("missing")
	errForeign = errors.New("written by another version, or by something else")
	errCorrupt = errors.New("corrupt")
)

func (p storedSegment) encode() []byte {
	value := make([]byte, 5, headerSize+len(p.records)*recordSize)
	value[0] = version
	value = binary.BigEndian.AppendUint64(value, p.number)
	value = binary.BigEndian.AppendUint64(value, p.reference)
	for i := range p.records {
		r := &p.records[i]
		value = binary.BigEndian.AppendUint32(value, r.at)
		value = append(value, r.key[:]...)
		value = append(value, r.signature[:]...)
	}
	binary.BigEndian.PutUint32(value[1:], checksum(value[5:]))
	return value
}

func decode(value []byte) (storedSegment, error) {
	if len(value) == 0 || value[0] != version {
		return storedSegment{}, errForeign
	}
	if len(value) < headerSize || (len(value)-headerSize)%recordSize != 0 {
		return storedSegment{}, fmt.Errorf("%w: %d bytes", errCorrupt, len(value))
	}
	if checksum(value[5:]) != binary.BigEndian.Uint32(value[1:]) {
		return storedSegment{}, fmt.Errorf("%w: wrong checksum", errCorrupt)
	}
	p := storedSegment{
		number:    binary.BigEndian.Uint64(value[5:]),
		reference: binary.BigEndian.Uint64(value[13:]),
		records:   make([]record, 0, (len(value)-headerSize)/recordSize),
	}
	for rest := value[headerSize:]; len(rest) > 0; rest = rest[recordSize:] {
		p.records = append(p.records, record{
			at:        binary.BigEndian.Uint32(rest),
			key:       digest(rest[4:20]),
			signature: digest(rest[20:36]),
		})
	}
	return p, nil
}

func checksum(b []byte) uint32 {
	return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
}
