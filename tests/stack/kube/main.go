// Command kubenode holds the parts of Kubernetes that the tests need and that are
// written in Go. It plays the part named by the base name it is called under
// (make links), or by its first argument: kubenode etcd --version
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/klog/v2"
	kubectlcmd "k8s.io/kubectl/pkg/cmd"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// component is one part that follows the common shape of the daemons.
func component(make func() *cobra.Command) func() int {
	return func() int { return cli.Run(make()) }
}

var parts = map[string]func() int{
	"kube-apiserver": component(apiserver.NewAPIServerCommand),
	"kubectl": func() int {
		cmdutil.CheckErr(cli.RunNoErrOutput(kubectlcmd.NewDefaultKubectlCommand()))
		return 0
	},
	"helm": helm,
	"etcd": func() int { etcdmain.Main(os.Args); return 0 },
}

func main() {
	defer klog.Flush()
	part, ok := parts[filepath.Base(os.Args[0])]
	if !ok && len(os.Args) > 1 {
		if part, ok = parts[os.Args[1]]; ok {
			os.Args = os.Args[1:]
		}
	}
	if !ok {
		var names []string
		for n := range parts {
			names = append(names, n)
		}
		sort.Strings(names)
		fmt.Fprintln(os.Stderr, "kubenode: call me as, or with, one of: "+strings.Join(names, " "))
		os.Exit(2)
	}
	os.Exit(part())
}
