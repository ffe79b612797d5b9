"""A real control plane of Kubernetes, and nodes that run the containers of pods as processes.

`build` makes the program from the Go modules of Kubernetes, `control_plane` starts it, `kubelet`
is a node, and `cluster` is what a test uses: one cluster for all test processes of a session.
"""
