#!/usr/bin/env bash
# Runs on a spot node beside Ray: when the cloud announces that it takes the node back, Ray is told to move its work away before that.
# AWS says so two minutes ahead (instance metadata, version 2). Ends when it has told Ray, or with the node.
#
#   DOCRAY_METADATA_URL   where the instance's metadata is (default: the link-local address of AWS)
#   DOCRAY_NODE_ID        Ray's id of this node (default: Ray finds it by the address)
set -euo pipefail
metadata="${DOCRAY_METADATA_URL:-http://169.254.169.254}"
ray="${DOCRAY_RAY_COMMAND:-ray}"

asked() { # asked PATH: what the metadata service says, nothing where it has nothing
    local token
    token="$(curl --silent --fail --max-time 2 --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$metadata/latest/api/token" || true)"
    curl --silent --fail --max-time 2 --header "X-aws-ec2-metadata-token: $token" "$metadata/$1" || true
}

until [ -n "$(asked latest/meta-data/spot/instance-action)" ]; do
    sleep "${DOCRAY_METADATA_EVERY_S:-5}"
done
echo "spot notice: draining this node" >&2
for _ in 1 2 3 4 5; do # the head may be busy; there are two minutes
    "$ray" drain-node ${DOCRAY_NODE_ID:+--node-id "$DOCRAY_NODE_ID"} --reason DRAIN_NODE_REASON_PREEMPTION \
        --reason-message "the cloud takes this spot node back" --deadline-remaining-seconds 110 && exit 0
    sleep 2
done
exit 1
