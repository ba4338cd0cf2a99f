// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"go.etcd.io/bbolt"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/xextension/storage"

	"github.com/otelcopilot/m365copilotreceiver/internal/panics"
	"github.com/otelcopilot/m365copilotreceiver/receiver"
)

// copyAttempts is how often a file is copied to which a collector is writing.
const copyAttempts = 3

// notCopiedError says why there is no copy that can be trusted.
type notCopiedError struct{ error }

func (e *notCopiedError) Unwrap() error { return e.error }

// readStored reads a copy of the file in which file_storage keeps the state of a receiver, which a collector may have open. The
// error is a notCopiedError, fs.ErrNotExist for no file, fs.ErrPermission for one that this user can't read and write, or else says
// that the file is damaged.
func readStored(ctx context.Context, directory string, id component.ID, tenant string) (stored receiver.Stored, err error) {
	temporary, err := os.MkdirTemp("", "m365copilot-doctor-")
	if err != nil {
		return stored, &notCopiedError{fmt.Errorf("no directory for a copy, set TMPDIR to one: %w", err)}
	}
	defer func() { _ = os.RemoveAll(temporary) }()
	name, err := fileName(ctx, temporary, id, tenant)
	if err != nil {
		return stored, &notCopiedError{fmt.Errorf("no file for a copy: %w", err)}
	}
	from, to := filepath.Join(directory, name), filepath.Join(temporary, name)
	if err = access(from); err != nil {
		return stored, err
	}
	if info, errStat := os.Stat(from); errStat == nil && info.Size() == 0 { // the collector ended while it created the file
		return stored, fs.ErrNotExist
	}
	for range copyAttempts {
		changed, errCopy := copyFile(ctx, from, to)
		if errCopy != nil {
			return stored, errCopy
		}
		if stored, err = readFile(ctx, to); err == nil && len(stored.Damaged) == 0 {
			return stored, nil
		}
		if changed {
			err = &notCopiedError{fmt.Errorf("a collector wrote to the file during each of %d copies", copyAttempts)}
		}
	}
	return stored, err
}

// fileName returns the name of the receiver's file: the extension itself creates one in an empty directory.
func fileName(ctx context.Context, empty string, id component.ID, tenant string) (string, error) {
	factory := filestorage.NewFactory()
	config, _ := factory.CreateDefaultConfig().(*filestorage.Config)
	config.Directory = empty
	set := extension.Settings{ID: component.NewID(factory.Type()), TelemetrySettings: componenttest.NewNopTelemetrySettings()}
	created, err := factory.Create(ctx, set, config)
	if err != nil {
		return "", err
	}
	provider, _ := created.(storage.Extension)
	client, err := provider.GetClient(ctx, component.KindReceiver, id, tenant)
	if err != nil {
		return "", err
	}
	if err = client.Close(ctx); err != nil {
		return "", err
	}
	files, err := os.ReadDir(empty)
	if err == nil && len(files) != 1 {
		err = fmt.Errorf("%d files", len(files))
	}
	if err != nil {
		return "", err
	}
	return files[0].Name(), nil
}

// copyFile copies a file over another. changed reports whether the file was written to meanwhile, so that the copy may be of no
// one moment.
func copyFile(ctx context.Context, from, to string) (changed bool, err error) {
	source, err := os.Open(from) //nolint:gosec // the file of the extension
	if err != nil {
		return false, err
	}
	defer func() { _ = source.Close() }()
	before, err := source.Stat()
	if err != nil {
		return false, err
	}
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0) //nolint:gosec // a temporary file
	if err != nil {
		return false, err
	}
	_, err = io.Copy(target, untilDone{ctx, source})
	if err = errors.Join(err, target.Close()); err != nil {
		return false, &notCopiedError{fmt.Errorf("copy the file: %w", err)}
	}
	after, err := source.Stat()
	if err != nil {
		return false, err
	}
	return !after.ModTime().Equal(before.ModTime()) || after.Size() != before.Size(), nil
}

// untilDone is a reader that fails when its context ends.
type untilDone struct {
	ctx context.Context //nolint:containedctx // it is used for one call
	io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}

// readFile reads a file of file_storage, which nothing else uses. To open it as the extension does would scan all pages in a
// goroutine of bbolt, whose panics at a damaged one nobody can catch.
func readFile(ctx context.Context, file string) (stored receiver.Stored, err error) {
	err = catch(func() error {
		db, err := bbolt.Open(file, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
		if err != nil {
			return err
		}
		defer func() { _ = db.Close() }()
		stored, err = receiver.ReadStored(ctx, boltClient{db: db})
		return err
	})
	return stored, err
}

// catch returns a panic as an error, and a fault as well: bbolt maps the file into memory, and follows what a damaged page says.
func catch(f func() error) error {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	return panics.Catch(f)
}

// boltClient is a storage client that can only read: a database of file_storage has one bucket.
type boltClient struct {
	storage.Client // nil
	db             *bbolt.DB
}

// Get implements storage.Client.
func (c boltClient) Get(_ context.Context, key string) (value []byte, err error) {
	err = catch(func() error {
		return c.db.View(func(tx *bbolt.Tx) error {
			if bucket := tx.Bucket([]byte("default")); bucket != nil {
				value = bytes.Clone(bucket.Get([]byte(key)))
			}
			return nil
		})
	})
	return value, err
}
