// SPDX-License-Identifier: Apache-2.0

//go:generate go tool -modfile=internal/tools/go.mod mdatagen metadata.yaml

// Package m365copilotreceiver brings every Microsoft 365 Copilot interaction of an organization into the Collector:
// Microsoft Graph pushes each prompt and answer as an encrypted change notification; the receiver keeps the
// subscription alive, verifies that a notification is authentic, decrypts it, and emits a log record.
package m365copilotreceiver
