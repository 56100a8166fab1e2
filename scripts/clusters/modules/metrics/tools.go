//go:build tools

// Package tools pins what says how much nodes and pods use.
package tools

import _ "sigs.k8s.io/metrics-server/cmd/metrics-server"
