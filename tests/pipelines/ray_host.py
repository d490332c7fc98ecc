"""A Ray cluster of several nodes on this machine, in a process of its own: Ray reads its environment when it is imported, and this is the
environment that its nodes inherit. Spoken to in lines: `add CPUS RESOURCE` answers the number and the id of a node that declares it,
`kill NUMBER` answers `done`, the end of input ends it.

    python ray_host.py TEMPORARY_FOLDER CPUS → the address, on the first line
"""

import sys

from ray.cluster_utils import Cluster

_MEMORY = {"object_store_memory": 96 << 20}


def main(folder: str, cpus: str) -> None:
    """Serves until the input ends."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(cpus), "include_dashboard": False, "temp_dir": folder, **_MEMORY})
    nodes = {}
    try:
        print(cluster.address, flush=True)
        for line in sys.stdin:
            verb, *arguments = line.split()
            if verb == "add":
                number, (cpus, resource) = len(nodes), arguments
                nodes[number] = cluster.add_node(num_cpus=int(cpus), resources={resource: 1000}, **_MEMORY)
                print(number, nodes[number].node_id, flush=True)
            else:
                cluster.remove_node(nodes[int(arguments[0])], allow_graceful=False)
                print("done", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
