# Bare make lists the targets. CI runs them, in a workflow or .ci/run; what it leaves out, and why, is in workflows_make_test.go.

GO      ?= go
TOOL     = $(GO) tool -modfile=$(CURDIR)/tools/go.mod
# Modules of their own, for a reason each: ARCHITECTURE.md.
MODULES  = . deploy/argocd
SLUICE   = bin/sluice
# The race detector needs cgo; everything else is built without.
export CGO_ENABLED ?= 0
BENCHTIME ?= 1x
# Tests measure a real kernel and real servers on a machine that others use, too: up to three that fail are run once more, and
# the summary names them. A data race is never run again.
TESTSUM  = $(TOOL) gotestsum --format pkgname --format-hide-empty-pkg --hide-summary skipped --rerun-fails=1 --rerun-fails-max-failures=3 \
	--rerun-fails-abort-on-data-race --rerun-fails-run-root-test --packages ./... -- -race -timeout 30m

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/sluice and bin/sluice-probe
	$(GO) build -o $(SLUICE) ./cmd/sluice
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags="-s -w" -o bin/sluice-probe ./cmd/sluice-probe

.PHONY: demo
demo: setup-demo build ## ship six releases of the sample service under load (needs root; at most 4 minutes once built)
	$(GO) run ./internal/demo -sluice $(SLUICE)

.PHONY: test
test: setup-test build check module ## run every check and test (kernel tests need root)
	$(GO) run ./internal/cluster/cmd build
	@set -e; for m in $(MODULES); do echo "cd $$m && $(TESTSUM)"; (cd $$m && CGO_ENABLED=1 $(TESTSUM)); done

.PHONY: cover
cover: setup-test ## run every test and fail if a package with logic has less than 85 % of its statements run (needs root; 15 minutes)
	$(GO) run ./internal/cluster/cmd build
	tools/cover.sh

.PHONY: chaos
chaos: setup-test ## kill, stop, fill disks, lose packets and take servers away, TIMES=10 times as often as make test (needs root)
	$(GO) run ./internal/cluster/cmd build
	tools/chaos.sh $(or $(TIMES),10)

.PHONY: module
module: ## check and test the Dagger module in ci/ (needs no engine)
	cd ci && $(GO) run ./standin && $(GO) vet ./... && $(TOOL) staticcheck ./... && CGO_ENABLED=1 $(GO) test -race ./...

.PHONY: check
check: setup-check lint generate-check ## what needs no root: gofumpt, vet, staticcheck, actionlint, generated files
	$(TOOL) actionlint

.PHONY: kernels
kernels: setup-kernels ## try every eBPF object on Linux 5.10 to the newest, in virtual machines (3 minutes)
	$(GO) run ./internal/kernels -compare

.PHONY: e2e
e2e: setup-e2e ## release into a real Kubernetes with Argo CD, in namespaces of its own (needs root; 20 minutes the first time)
	$(GO) run ./internal/e2e

.PHONY: images
images: ## make the images of sluice-argo and sluice-probe in out/images, or push them to REGISTRY
	$(GO) run ./internal/ship $(if $(REGISTRY),-registry $(REGISTRY))

BASE ?= origin/main
.PHONY: review
review: build ## what a branch changes: its SBOM against that of BASE, and how long a rollout takes
	$(SLUICE) sbom diff --base $(BASE) --comment
	$(SLUICE) gate plan

.PHONY: sync
sync: ## sync the Argo CD application of sluice.yaml and wait for the verdict (CONFIG=FILE, REVISION=…, SARIF=FILE; KUBECONFIG, or its content in KUBECONFIG_DATA)
	@tools/sync.sh

.PHONY: bench
bench: ## run every benchmark once (BENCHTIME=25x for numbers)
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) ./bpf/... ./internal/export ./internal/wire

.PHONY: lint
lint: ## gofumpt, vet and staticcheck
	@out=$$($(TOOL) gofumpt -l $$(git ls-files '*.go' | grep -v _bpfe)); test -z "$$out" || { echo "not gofumpt-ed:"; echo "$$out"; exit 1; }
	@set -e; for m in $(MODULES); do echo "cd $$m && go vet ./... && staticcheck ./..."; (cd $$m && $(GO) vet ./... && $(TOOL) staticcheck ./...); done

.PHONY: generate
generate: ## compile the eBPF objects and write generated files again (needs clang-19)
	$(GO) generate ./...

.PHONY: generate-check
generate-check: generate ## fail if a generated file is not what its source makes
	@git diff --exit-code --stat -- '*.o' '*_bpfel*.go' '*.h' docs/sluice.schema.json || { echo "generated files differ from their sources: run make generate and commit" >&2; exit 1; }

.PHONY: setup-check setup-demo setup-test setup-kernels setup-e2e
setup-check:
	@tools/setup.sh check
setup-demo:
	@tools/setup.sh demo
setup-test:
	@tools/setup.sh test
setup-e2e:
	@tools/setup.sh e2e
setup-kernels:
	@tools/setup.sh kernels

.PHONY: clean
clean: ## stop the sample service and remove bin and out
	@test ! -x $(SLUICE) || $(SLUICE) down
	rm -rf bin out
