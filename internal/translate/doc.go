// Package translate turns Copilot interactions into OpenTelemetry logs and metrics: pure functions of what was received.
package translate
