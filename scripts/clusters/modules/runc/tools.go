//go:build tools

// Package tools pins runc, which needs C.
package tools

import (
	_ "github.com/opencontainers/runc"
)
