package main

import (
	"context"
	"log"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	released "github.com/kubernetes-csi/external-provisioner/v6/pkg/controller"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	translation "k8s.io/csi-translation-lib"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// provision has claims given volumes by the driver, as the external-provisioner does, by its own packages: its program
// of that version cannot be built with the client of this cluster's version, for the sake of a part (capacity) that is
// not needed here.
func provision(ctx context.Context, kubeconfig, endpoint string) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		log.Fatal(err)
	}
	client := kubernetes.NewForConfigOrDie(config)
	driver, err := connection.ConnectWithoutMetrics(ctx, endpoint)
	if err != nil {
		log.Fatal(err)
	}
	plugin, err := rpc.GetPluginCapabilities(ctx, driver)
	if err != nil {
		log.Fatal(err)
	}
	able, err := rpc.GetControllerCapabilities(ctx, driver)
	if err != nil {
		log.Fatal(err)
	}
	factory := informers.NewSharedInformerFactory(client, 15*time.Minute)
	claims, classes := factory.Core().V1().PersistentVolumeClaims(), factory.Storage().V1().StorageClasses()
	csiNodes, nodes := factory.Storage().V1().CSINodes(), factory.Core().V1().Nodes()
	made := released.NewCSIProvisioner(
		client, 10*time.Second, name, "pvc", -1, driver, snapshots.NewForConfigOrDie(config), name, plugin, able, "",
		false, true, translation.New(), classes.Lister(), csiNodes.Lister(), nodes.Lister(), claims.Lister(), nil, nil,
		false, "", nil, false, false, nil,
	)
	provisioning := controller.NewProvisionController(
		ctx, client, name, made,
		controller.LeaderElection(false),
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
		controller.RetryIntervalMax(2*time.Second),
		controller.ClaimsInformer(claims.Informer()),
		controller.AddFinalizer(true),
	)
	for _, informer := range []interface{ HasSynced() bool }{classes.Informer(), csiNodes.Informer(), nodes.Informer()} {
		_ = informer // asked for, so that the factory starts it
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	provisioning.Run(ctx)
}
