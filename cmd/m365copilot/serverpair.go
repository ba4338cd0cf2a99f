// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/otelcopilot/m365copilotreceiver/internal/graphtest"
)

// The files of -tls-dir.
const (
	certificateFile = "server.crt"
	keyFile         = "server.key"
)

const (
	pairLifetime = 365 * 24 * time.Hour
	// pairMargin is how long a certificate must still be valid to be reused.
	pairMargin = 24 * time.Hour
)

// serverPair returns the certificate in dir with its key, and whether it was created by this call: that happens if there is
// none, or if an earlier one is about to expire. Files of other origin are left alone, and are an error.
func serverPair(dir string, now time.Time) (pair graphtest.Pair, made bool, err error) {
	pair, err = readPair(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return graphtest.Pair{}, false, err
	default:
		fresh, err := reusable(pair, now)
		if err != nil {
			return graphtest.Pair{}, false, fmt.Errorf("%s: %w; move it away or name another directory", filepath.Join(dir, certificateFile), err)
		}
		if fresh {
			return pair, false, nil
		}
	}
	pair, err = graphtest.ServerCertificate(pairLifetime)
	if err != nil {
		return graphtest.Pair{}, false, err
	}
	return pair, true, writePair(dir, pair)
}

// readPair reports fs.ErrNotExist only when neither file is there.
func readPair(dir string) (graphtest.Pair, error) {
	certificate, errCertificate := os.ReadFile(filepath.Join(dir, certificateFile)) //nolint:gosec // the operator names the directory
	key, errKey := os.ReadFile(filepath.Join(dir, keyFile))                         //nolint:gosec // likewise
	if errors.Is(errCertificate, fs.ErrNotExist) != errors.Is(errKey, fs.ErrNotExist) {
		return graphtest.Pair{}, fmt.Errorf("%s has only one of %s and %s; move it away or name another directory", dir, certificateFile, keyFile)
	}
	return graphtest.Pair{Certificate: certificate, Key: key}, errors.Join(errCertificate, errKey)
}

// reusable reports whether the certificate is valid for long enough. A certificate of other origin is an error.
func reusable(pair graphtest.Pair, now time.Time) (bool, error) {
	if _, err := pair.TLS(); err != nil {
		return false, err
	}
	certificate, err := pair.X509()
	if err != nil {
		return false, err
	}
	if !slices.Equal(certificate.Subject.Organization, []string{graphtest.Organization}) {
		return false, errors.New("the certificate was not created by this command")
	}
	return now.Add(pairMargin).Before(certificate.NotAfter) && now.After(certificate.NotBefore), nil
}

// writePair writes the key first, since a certificate without its key is useless.
func writePair(dir string, pair graphtest.Pair) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("create the directory of -tls-dir: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, keyFile), pair.Key, 0o600); err != nil {
		return err
	}
	return replaceFile(filepath.Join(dir, certificateFile), pair.Certificate, 0o644)
}

// replaceFile replaces a file atomically, so that it is never half written or has other permissions.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, errWrite := file.Write(content)
	err = errors.Join(errWrite, file.Chmod(mode), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(file.Name()))
	}
	return nil
}
