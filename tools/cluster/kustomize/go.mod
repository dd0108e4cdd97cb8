module github.com/sluice-cd/sluice/tools/cluster/kustomize

go 1.25.0

require sigs.k8s.io/kustomize/kustomize/v5 v5.8.1
