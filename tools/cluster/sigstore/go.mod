module github.com/sluice-cd/sluice/tools/cluster/sigstore

go 1.26.0

require (
	github.com/sigstore/fulcio v1.8.4
	github.com/sigstore/timestamp-authority/v2 v2.0.3
)
