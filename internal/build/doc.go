// Package build cross-compiles a Go main package into small, static,
// reproducible binaries.
//
// What it promises: CGO is off, paths are trimmed, symbols and build id are
// gone, the version is stamped, and nothing of the caller's Go configuration
// that could change a byte (GOFLAGS, GOAMD64, GOEXPERIMENT, …) reaches the
// compiler. Each result is opened again and its format and architecture
// compared with what was asked. Either all binaries appear in the output
// directory or none does.
//
// Inputs names everything the build reads by one digest, so that a caller can
// skip a build that would give the same bytes. VerifyReproducible proves the
// "same bytes" part with a second build elsewhere.
//
// Packing, signing and deciding what to do about a size are left to others.
package build
