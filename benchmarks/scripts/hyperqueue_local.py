"""HyperQueue on this machine: argv[1] times /bin/true on two CPUs, as one job."""

import sys

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig

with LocalCluster() as cluster:
    cluster.start_worker(WorkerConfig(cores=2))
    client = cluster.client()
    job = Job(max_fails=0)
    for _ in range(int(sys.argv[1])):
        job.program(["/bin/true"])
    client.wait_for_jobs([client.submit(job)])
