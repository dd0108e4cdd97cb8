package wire

import "google.golang.org/protobuf/encoding/protowire"

// Field numbers, message by message, as in snapshot.proto.
const (
	snapshotVersion protowire.Number = iota + 1
	snapshotNode
	snapshotAt
	snapshotStart
	snapshotLoaded
	snapshotMismatch
	snapshotSwaps
	snapshotLoss
	snapshotCost
	snapshotBudget
	snapshotExemplars
	snapshotWorkloads
	snapshotMismatches
)

const (
	startBoot protowire.Number = iota + 1
	startLoaded
)

const (
	loadedDigest protowire.Number = iota + 1
	loadedPrograms
	loadedMaps
)

const (
	programName protowire.Number = iota + 1
	programID
	programTag
	programLoaded
	programXlated
	programLink
	programAttachType
	programAttached
)

const (
	mapName protowire.Number = iota + 1
	mapID
	mapType
	mapKeySize
	mapValueSize
	mapMaxEntries
	mapFrozen
)

const (
	lossRequests protowire.Number = iota + 1
	lossUnmeasured
	lossDesynced
	lossOlder
	lossExemplars
)

const (
	costRuns protowire.Number = iota + 1
	costTime
)

const (
	budgetShare protowire.Number = iota + 1
	budgetLimit
)

const (
	keyCgroup protowire.Number = iota + 1
	keyAddress
	keyPort
)

const (
	exemplarWorkload protowire.Number = iota + 1
	exemplarAt
	exemplarTook
	exemplarStatus
	exemplarGRPC
	exemplarAborted
	exemplarTrace
)

const (
	workloadKey        protowire.Number = 1
	workloadFirstSum   protowire.Number = 2 // the others follow in the order of a tally's sums
	workloadClasses    protowire.Number = 13
	workloadGRPC       protowire.Number = 14
	workloadLatency    protowire.Number = 15
	workloadComplete   protowire.Number = 16
	workloadFirst      protowire.Number = 17
	workloadFirstError protowire.Number = 18
)
