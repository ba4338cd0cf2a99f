// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// addresses are where the programs listen, each host:port on loopback.
type addresses struct {
	Logs      string `json:"logs"`      // VictoriaLogs
	Metrics   string `json:"metrics"`   // VictoriaMetrics
	Recording string `json:"recording"` // vmalert with the recording rules
	Alerts    string `json:"alerts"`    // vmalert with the alerts
	Graph     string `json:"graph"`     // the emulated tenant
	Webhook   string `json:"webhook"`   // the collector, for Graph
	Telemetry string `json:"telemetry"` // the collector's own metrics
}

// chooseAddresses prefers the ports that the programs have by default, and those of the other examples.
func chooseAddresses() (a addresses, r reserved, err error) {
	chosen, r, err := reserve(9428, 8428, 8880, 8881, 18080, 18443, 8888)
	if err != nil {
		return a, nil, err
	}
	for i, to := range []*string{&a.Logs, &a.Metrics, &a.Recording, &a.Alerts, &a.Graph, &a.Webhook, &a.Telemetry} {
		*to = chosen[i]
	}
	return a, r, nil
}

// reserved holds addresses until the program starts that will listen there, because nobody else may take them meanwhile.
type reserved map[string]net.Listener

// reserve returns an address on loopback for each port: with that port, or with another one if it is taken.
func reserve(ports ...int) (chosen []string, r reserved, err error) {
	r = reserved{}
	for _, port := range ports {
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			listener, err = net.Listen("tcp", "127.0.0.1:0")
		}
		if err != nil {
			r.release(chosen...)
			return nil, nil, err
		}
		address := listener.Addr().String()
		chosen, r[address] = append(chosen, address), listener
	}
	return chosen, r, nil
}

// release gives addresses free, as far as they are reserved.
func (r reserved) release(addresses ...string) {
	for _, address := range addresses {
		if listener, found := r[address]; found {
			_ = listener.Close()
			delete(r, address)
		}
	}
}

// port returns the port of an address.
func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// write writes the addresses to a file of the directory, for programs that use the demonstration.
func (a *addresses) write(directory string) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(directory, "addresses.json"), text, 0o600)
}
