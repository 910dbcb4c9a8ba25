//go:build tools

// Package tools names what build.sh builds, so that go.mod and go.sum pin it and everything below it.
package tools

import _ "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
