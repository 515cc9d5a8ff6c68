#!/bin/sh
# Puts what make_secrets.py wrote into the namespace, or brings it up to date: secrets.sh [FOLDER].
# The operators' token stays with them: authsvc gets its digest alone.
set -eu
folder=${1:-$(dirname "$0")/../secrets}

apply() {
    kubectl --namespace authsvc create secret "$@" --dry-run=client --output yaml |
        kubectl apply --filename -
}

kubectl apply --filename "$(dirname "$0")/namespace.yaml"
apply generic authsvc-ca --from-file "$folder/ca.crt"
apply tls authsvc-tls --cert "$folder/authsvc.crt" --key "$folder/authsvc.key"
apply tls valkey-tls --cert "$folder/valkey.crt" --key "$folder/valkey.key"
apply generic valkey-users --from-file "$folder/users.acl"
apply generic valkey-exporter --from-file "$folder/valkey-exporter.json"
for name in valkey-password adapter-token console-token console-operators; do
    apply generic "$name" --from-file "$folder/$name"
done
# The digests of all callers in one Secret: a new one is a file more in authsvc's pods.
set --
for file in "$folder"/*-token*.sha256; do
    set -- "$@" --from-file "$file"
done
apply generic service-token-digests "$@"
