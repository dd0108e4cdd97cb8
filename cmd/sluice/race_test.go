//go:build race

package main

// raceDetector says whether it watches this test binary.
const raceDetector = true
