#!/bin/sh
# Builds deploy/Containerfile: image.sh [--buildah] TAG. With docker or podman where one runs;
# otherwise, or if told so, with Debian's buildah, without a daemon, on bases that debootstrap makes
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

if ! command -v buildah >/dev/null || ! command -v debootstrap >/dev/null; then
    install="apt-get install --yes --no-install-recommends buildah debootstrap"
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

as_image() { # FOLDER NAME
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$1" / >/dev/null
    buildah commit --quiet "$container" "$2" >/dev/null
    buildah rm "$container" >/dev/null
}

if ! buildah inspect --type image "$build" >/dev/null 2>&1; then
    root=$(mktemp -d)
    chmod 755 "$root"
    trap 'rm -rf "$root"' EXIT
    echo "image: 1/3 making a base of Debian $release"
    debootstrap --variant=minbase --include=python3-minimal,python3,ca-certificates \
        "$release" "$root" "$(mirror)" >"$root.log" 2>&1 || { cat "$root.log" >&2; exit 1; }
    rm -rf "$root.log" "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/doc \
        "$root"/usr/share/man "$root"/usr/share/locale
    as_image "$root" "$base"
    echo "image: 2/3 adding what the build needs"
    # The name resolution and the trust store of this machine, for the time of the installation.
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet=2 \
        --no-install-recommends -o Dpkg::Use-Pty=0 python3-venv >"$root.log" 2>&1 ||
        { cat "$root.log" >&2; exit 1; }
    rm "$root.log"
    as_image "$root" "$build"
fi
echo "image: 3/3 building $tag"
buildah build --quiet --layers=false --format docker \
    --build-arg PYTHON="$base" --build-arg BUILD="$build" \
    --volume /etc/ssl/certs:/etc/ssl/certs:ro \
    --ignorefile deploy/Containerfile.dockerignore --file deploy/Containerfile --tag "$tag" . >/dev/null
buildah images "$tag"
