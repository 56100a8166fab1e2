//go:build tools

// Package tools pins what stands in for nodes and their pods.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
