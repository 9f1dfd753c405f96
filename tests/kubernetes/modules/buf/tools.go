//go:build tools

package tools

import _ "github.com/bufbuild/buf/cmd/buf"
