#!/bin/sh
# Builds deploy/Containerfile: image.sh [--buildah] TAG. With docker or podman where one runs;
# otherwise, or if told so, with Debian's buildah, without a daemon, on bases that mmdebstrap makes
# of the machine's own Debian mirror. The bases are kept; `buildah rmi --all` removes them, so that the next ones are newer.
set -eu
engines="docker podman"
if [ "$1" = --buildah ]; then
    engines=
    shift
fi
tag=$1
cd "$(dirname "$0")/.."

for engine in $engines; do
    if command -v "$engine" >/dev/null && "$engine" info >/dev/null 2>&1; then
        echo "image: building with $engine"
        exec "$engine" build --file deploy/Containerfile --tag "$tag" .
    fi
done

if ! command -v buildah >/dev/null || ! command -v mmdebstrap >/dev/null; then
    install="apt-get install --yes --no-install-recommends buildah mmdebstrap"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "image: needs docker, podman, or Debian's buildah; run: sudo $install" >&2
        exit 2
    fi
    echo "image: installing buildah"
    apt-get update --quiet=2 >/dev/null
    DEBIAN_FRONTEND=noninteractive $install --quiet=2 >/dev/null
fi
export BUILDAH_ISOLATION=chroot
release=bookworm
base=localhost/authsvc-base:$release
build=localhost/authsvc-build:$release

mirror() { # of this machine's apt, whichever it is
    sed -n 's/^URIs: *//p; s/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\).*/\2/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1
}

base_of() { # NAME STEP PACKAGES
    buildah inspect --type image "$1" >/dev/null 2>&1 && return
    echo "image: $2/3 making a base of Debian $release with $3"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    mmdebstrap --quiet --variant=essential --include="$3" \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' "$release" "$folder/base.tar" "$(mirror)"
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$folder/base.tar" / >/dev/null
    buildah commit --quiet "$container" "$1" >/dev/null
    buildah rm "$container" >/dev/null
    rm -rf "$folder"
}

# grpcio needs libstdc++, which the official images of Python have.
base_of "$base" 1 ca-certificates,libstdc++6,python3
base_of "$build" 2 ca-certificates,python3-venv
echo "image: 3/3 building $tag"
buildah build --quiet --layers=false --format docker \
    --build-arg PYTHON="$base" --build-arg BUILD="$build" \
    --volume /etc/ssl/certs:/etc/ssl/certs:ro \
    --ignorefile deploy/Containerfile.dockerignore --file deploy/Containerfile --tag "$tag" . >/dev/null
buildah images "$tag"
