// Command sluice-argo is what Sluice does in a cluster under Argo CD.
package main

import (
	"fmt"

	"github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
	_ "github.com/go-git/go-git/v5"
	_ "k8s.io/client-go/dynamic"
	_ "k8s.io/client-go/tools/clientcmd"
	_ "sigs.k8s.io/yaml"

	"github.com/sluice-cd/sluice/deploy/canary"
	_ "github.com/sluice-cd/sluice/internal/config"
	_ "github.com/sluice-cd/sluice/internal/image"
	_ "github.com/sluice-cd/sluice/internal/policy"
	_ "github.com/sluice-cd/sluice/internal/release"
	_ "github.com/sluice-cd/sluice/internal/sign"
	_ "github.com/sluice-cd/sluice/internal/source"
)

func main() {
	fmt.Println(v1alpha1.ApplicationConditionSyncError, canary.Full)
}
