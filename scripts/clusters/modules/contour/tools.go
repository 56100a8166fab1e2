//go:build tools

// Package tools pins the gateway's control plane.
package tools

import (
	_ "github.com/projectcontour/contour/cmd/contour"
)
