// A driver of the Container Storage Interface for the tests of a cluster: volumes are folders, snapshots are copies of
// them, and pods get theirs by a bind mount. What claims, snapshots and their objects do meanwhile is done by released
// code: the external-provisioner's packages (provisioner.go), csi-snapshotter, snapshot-controller and the kubelet.
//
// FOLDER/volumes/ID and FOLDER/snapshots/ID hold the data; FOLDER/fails, where it is there, is why nothing can be made.
package main

import (
	"context"
	"flag"
	"log"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
	registration "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
)

const name = "folders.csi.instar.test"

type driver struct {
	csi.UnimplementedIdentityServer
	csi.UnimplementedControllerServer
	csi.UnimplementedNodeServer
	registration.UnimplementedRegistrationServer
	folder, node, endpoint string
}

func main() {
	made := &driver{}
	flag.StringVar(&made.folder, "folder", "", "where volumes and snapshots are")
	flag.StringVar(&made.node, "node", "", "the name of this node")
	flag.StringVar(&made.endpoint, "endpoint", "", "the socket of the driver")
	kubeconfig := flag.String("kubeconfig", "", "by which claims are given volumes; without it, that is another node's")
	kubelet := flag.String("registration", "", "the socket by which the kubelet finds it")
	flag.Parse()
	for _, kind := range []string{"volumes", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(made.folder, kind), 0o755); err != nil {
			log.Fatal(err)
		}
	}
	served := grpc.NewServer()
	csi.RegisterIdentityServer(served, made)
	csi.RegisterControllerServer(served, made)
	csi.RegisterNodeServer(served, made)
	go serve(served, made.endpoint)
	if *kubeconfig != "" {
		go provision(context.Background(), *kubeconfig, made.endpoint)
	}
	told := grpc.NewServer()
	registration.RegisterRegistrationServer(told, made)
	serve(told, *kubelet)
}

func serve(server *grpc.Server, socket string) {
	_ = os.Remove(socket)
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		log.Fatal(err)
	}
	listening, err := net.Listen("unix", socket)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(server.Serve(listening))
}

func (d *driver) GetInfo(context.Context, *registration.InfoRequest) (*registration.PluginInfo, error) {
	versions := []string{"1.0.0"}
	return &registration.PluginInfo{Type: registration.CSIPlugin, Name: name, Endpoint: d.endpoint, SupportedVersions: versions}, nil
}

func (d *driver) NotifyRegistrationStatus(_ context.Context, said *registration.RegistrationStatus) (*registration.RegistrationStatusResponse, error) {
	if !said.PluginRegistered {
		log.Fatalf("the kubelet takes it not: %s", said.Error)
	}
	return &registration.RegistrationStatusResponse{}, nil
}

func (d *driver) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: name, VendorVersion: "1"}, nil
}

func (d *driver) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	service := &csi.PluginCapability_Service{Type: csi.PluginCapability_Service_CONTROLLER_SERVICE}
	has := &csi.PluginCapability{Type: &csi.PluginCapability_Service_{Service: service}}
	return &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{has}}, nil
}

func (d *driver) Probe(context.Context, *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	return &csi.ProbeResponse{}, nil
}

func (d *driver) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	var has []*csi.ControllerServiceCapability
	for _, one := range []csi.ControllerServiceCapability_RPC_Type{
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
		csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
	} {
		call := &csi.ControllerServiceCapability_RPC{Type: one}
		has = append(has, &csi.ControllerServiceCapability{Type: &csi.ControllerServiceCapability_Rpc{Rpc: call}})
	}
	return &csi.ControllerGetCapabilitiesResponse{Capabilities: has}, nil
}

func (d *driver) CreateVolume(_ context.Context, asked *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	from := ""
	if source := asked.VolumeContentSource; source != nil {
		if source.GetSnapshot() == nil {
			return nil, status.Error(codes.InvalidArgument, "a volume is made of nothing, or of a snapshot")
		}
		from = d.path("snapshots", source.GetSnapshot().SnapshotId)
	}
	if err := d.make(from, d.path("volumes", asked.Name)); err != nil {
		return nil, err
	}
	size := asked.CapacityRange.GetRequiredBytes()
	made := &csi.Volume{VolumeId: asked.Name, CapacityBytes: size, ContentSource: asked.VolumeContentSource}
	return &csi.CreateVolumeResponse{Volume: made}, nil
}

func (d *driver) DeleteVolume(_ context.Context, asked *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	return &csi.DeleteVolumeResponse{}, os.RemoveAll(d.path("volumes", asked.VolumeId))
}

func (d *driver) CreateSnapshot(_ context.Context, asked *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	made := d.path("snapshots", asked.Name)
	if err := d.make(d.path("volumes", asked.SourceVolumeId), made); err != nil {
		return nil, err
	}
	about, err := os.Stat(made)
	if err != nil {
		return nil, err
	}
	changed := about.Sys().(*syscall.Stat_t).Ctim
	at := &timestamppb.Timestamp{Seconds: changed.Sec, Nanos: int32(changed.Nsec)}
	one := &csi.Snapshot{SnapshotId: asked.Name, SourceVolumeId: asked.SourceVolumeId, CreationTime: at, ReadyToUse: true}
	return &csi.CreateSnapshotResponse{Snapshot: one}, nil
}

func (d *driver) DeleteSnapshot(_ context.Context, asked *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	return &csi.DeleteSnapshotResponse{}, os.RemoveAll(d.path("snapshots", asked.SnapshotId))
}

func (d *driver) NodeGetInfo(context.Context, *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	return &csi.NodeGetInfoResponse{NodeId: d.node}, nil
}

func (d *driver) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	return &csi.NodeGetCapabilitiesResponse{}, nil
}

func (d *driver) NodePublishVolume(_ context.Context, asked *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := os.MkdirAll(asked.TargetPath, 0o750); err != nil {
		return nil, err
	}
	if isMounted(asked.TargetPath) {
		return &csi.NodePublishVolumeResponse{}, nil
	}
	from := d.path("volumes", asked.VolumeId)
	return &csi.NodePublishVolumeResponse{}, syscall.Mount(from, asked.TargetPath, "", syscall.MS_BIND, "")
}

func (d *driver) NodeUnpublishVolume(_ context.Context, asked *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if isMounted(asked.TargetPath) {
		if err := syscall.Unmount(asked.TargetPath, 0); err != nil {
			return nil, err
		}
	}
	return &csi.NodeUnpublishVolumeResponse{}, os.RemoveAll(asked.TargetPath)
}

// make has a folder hold what another does ("": nothing), all of it or nothing, unless it is there already.
func (d *driver) make(from, to string) error {
	if why, err := os.ReadFile(filepath.Join(d.folder, "fails")); err == nil {
		return status.Error(codes.ResourceExhausted, strings.TrimSpace(string(why)))
	}
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	draft := to + ".draft"
	if err := os.RemoveAll(draft); err != nil {
		return err
	}
	if from == "" {
		if err := os.Mkdir(draft, 0o777); err != nil {
			return err
		}
		if err := os.Chmod(draft, 0o777); err != nil { // pods are not root
			return err
		}
	} else if said, err := exec.Command("cp", "--archive", "-T", "--", from, draft).CombinedOutput(); err != nil {
		return status.Errorf(codes.Internal, "cp: %s", said)
	}
	return os.Rename(draft, to)
}

func (d *driver) path(kind, id string) string {
	return filepath.Join(d.folder, kind, filepath.Base(id))
}

func isMounted(path string) bool {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	return strings.Contains(string(mounts), " "+path+" ")
}
