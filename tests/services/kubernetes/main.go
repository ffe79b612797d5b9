// The control plane of Kubernetes in one file: the first argument says which program to be.
//
// One link instead of four, and nothing to install. They stay four processes, because feature
// gates and metrics are global to a process.
package main

import (
	"fmt"
	"os"
	"time"

	etcd "go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/pkg/controller/job"
)

// KUBETEST_JOB_BACKOFF shortens the 10 s (doubling) before a failed pod is replaced: no option
// of the controller manager does.
func shortenBackOff() {
	text := os.Getenv("KUBETEST_JOB_BACKOFF")
	if text == "" {
		return
	}
	backOff, err := time.ParseDuration(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, "KUBETEST_JOB_BACKOFF:", err)
		os.Exit(2)
	}
	job.DefaultJobPodFailureBackOff = backOff
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kubetest etcd|apiserver|manager|scheduler [OPTIONS]")
		os.Exit(2)
	}
	program := os.Args[1]
	os.Args = append([]string{program}, os.Args[2:]...)
	switch program {
	case "etcd":
		etcd.Main(os.Args)
	case "apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "manager":
		shortenBackOff()
		os.Exit(cli.Run(manager.NewControllerManagerCommand()))
	case "scheduler":
		os.Exit(cli.Run(scheduler.NewSchedulerCommand()))
	default:
		fmt.Fprintln(os.Stderr, "no such program:", program)
		os.Exit(2)
	}
}
