//go:build race

package gate

// raceDetector makes simulations ten times slower: fewer trials are run.
const raceDetector = true
