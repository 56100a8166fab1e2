"""``instar gc``: remove what no kept release needs: images and layers, secrets, logs, fetched files; and certificates
that no name needs.

``retention.py`` says which releases are kept. Images that a tag names (the newest bake of each service) stay too.
Fetched files stay that the locks of these images name, and those of each service's newest lock, which a bake writes
down before it fetches anything (``fetch/needs.py``). Snapshots of volumes that rollouts took stay as long as the
release whose data they hold; others until somebody removes them.

Bakes, deploys, promotions and gc take turns (the store's lock). Whoever begins to need an image or a secret without
that lock (a rollback, a pin) looks for it and writes so down under another one (``hold_needs``), under which gc reads
what is needed and takes the rest out of the store's index: it is either seen by gc, or finds it gone. Killed anywhere,
what was left of it to remove is found by the next gc. What was removed is written to the ledger afterwards (not, if it
was killed before that): there is room for it then, and a full disk is what gc is for.
"""

from __future__ import annotations

from collections.abc import Iterator

from instar.bake import layers_kept, prune_records
from instar.errors import ComponentMissing, EnvironmentBusy, ProviderError, Refused
from instar.fetch.needs import Needs
from instar.model.digest import Digest
from instar.model.garbage import Collection
from instar.model.happenings import GarbageCollected
from instar.model.progress import Progress
from instar.model.release import EnvironmentId
from instar.operations import recordings, retention
from instar.operations.data import old_snapshots, remove_snapshots
from instar.operations.installed import find_provider
from instar.operations.layers import layers_in_use
from instar.operations.ledger import require_none_unread
from instar.operations.locks import hold_environment, hold_needs, hold_store, is_here
from instar.operations.old_certificates import remove_old_certificates
from instar.operations.old_secrets import remove_old_secrets
from instar.operations.retention import environments_with_releases, kept_releases
from instar.operations.workspace import Workspace
from instar.store.garbage import Collected


def gc(workspace: Workspace, *, dry_run: bool, everything: bool = False) -> Collection:
    """Remove images, layers and their mountable copies, secrets, logs, and fetched files that no kept release needs,
    and certificates that no name does.

    ``everything``: also the newest bakes of services that have no environment, all that was fetched, and certificates
    that would be of use to a name that came back.
    """
    require_none_unread(workspace)
    with hold_store(workspace, to_remove=True):
        services = {state.id.service for state in workspace.ledger.environments()}
        keep, collected = _collect(workspace, services if everything else None, dry_run=dry_run)
        if not dry_run:
            left = workspace.store.images()
            prune_records(workspace.state, workspace.store)
            workspace.layers.prune(
                {layer.diff_id for image in left for layer in image.layers}, lambda: set(layers_in_use(workspace))
            )
        recorded = _recordings(workspace, dry_run)
        secrets = remove_old_secrets(workspace, dry_run=dry_run)
        certificates = remove_old_certificates(workspace, dry_run=dry_run, everything=everything)
        logs = (*_logs(workspace, dry_run), *_logs_of_removed(workspace, dry_run))
        fetched, freed = _fetched(workspace, keep, services if everything else None, dry_run=dry_run)
    snapshots = tuple(_snapshots(workspace, dry_run))
    found = Collection(
        images=collected.images,
        blobs=collected.blobs,
        size_bytes=collected.size_bytes + freed,
        logs=logs,
        fetched=fetched,
        recordings=recorded,
        secrets=secrets,
        certificates=certificates,
        snapshots=snapshots,
    )
    if not dry_run and found != Collection(images=(), blobs=0, size_bytes=0):
        done = GarbageCollected(
            images=found.images,
            blobs=found.blobs,
            size_bytes=found.size_bytes,
            logs=len(logs),
            fetched=fetched,
            recordings=len(recorded),
            secrets=secrets,
            certificates=len(certificates),
        )
        workspace.ledger.record(done)
    return found


def remove_image(workspace: Workspace, word: str) -> Digest:
    """Take one image out of the store; its blobs go with the next gc. Raises Refused when a release needs it."""
    require_none_unread(workspace)
    with hold_store(workspace, to_remove=True), hold_needs(workspace, to_remove=True):
        image = workspace.store.find(word)
        with workspace.ledger.transaction():
            kept = tuple(kept_releases(workspace.ledger))
        users = [f"{release.environment} {release.number}" for release in kept if release.image == image.digest]
        if users:
            raise Refused(
                f"cannot remove image '{image.digest.short}': it is needed by release {', '.join(users)}",
                hint="unpin or destroy what needs it, or deploy until the release is older than keep.releases",
            )
        workspace.store.remove(image.digest)
    return image.digest


def _collect(workspace: Workspace, services: set[str] | None, *, dry_run: bool) -> tuple[set[Digest], Collected]:
    """Remove images and blobs; return what is kept and what went. Newest bakes stay of ``services``, None: of all."""
    with hold_needs(workspace, to_remove=True):
        tagged = {digest for tag, digest in workspace.store.tags().items() if services is None or tag in services}
        keep = _needed(workspace) | tagged
        keep |= _bases(workspace, keep, services)
        for digest in keep:
            workspace.store.image(digest)  # an index that lost an image that is needed must cost no blob
        gone = tuple(digest for digest in workspace.store.digests() if digest not in keep)
        if not dry_run:
            workspace.store.remove(*gone)
        of_stages = layers_kept(workspace.state.steps, workspace.store.tags() if services is None else services)
    rest = workspace.store.collect(keep | of_stages, dry_run=dry_run)
    return keep, Collected(images=gone, blobs=rest.blobs, size_bytes=rest.size_bytes)


def _bases(workspace: Workspace, images: set[Digest], services: set[str] | None) -> set[Digest]:
    """Return the images that are there and that others stand on: kept ones, and what each service is locked to."""
    needs = Needs(workspace.state.cache)
    names = (
        {name for name in needs.names() if name.startswith("service-")} if services is None else _records_of(services)
    )
    wanted = {digest for name in names | {one.hex for one in images} for digest in needs.find(name) or ()}
    return wanted & set(workspace.store.digests())


def _needed(workspace: Workspace) -> set[Digest]:
    """Return the images of the kept releases.

    What an earlier gc took, when less was to be kept, is not among them; but what is half there is made whole. Of
    environments that are on another machine, those that are here: what they run with is there.
    """
    needed = set[Digest]()
    with workspace.ledger.transaction():
        environments = tuple(environments_with_releases(workspace.ledger))
    for one in environments:
        kept, required = (rule(one.state, one.releases, one.present) for rule in (retention.kept, retention.required))
        here = is_here(workspace, one.state)
        for release in one.releases:
            if (here and release.number in required) or (
                release.number in kept and workspace.store.enter_again(release.image)
            ):
                needed.add(release.image)
    return needed


def _snapshots(workspace: Workspace, dry_run: bool) -> Iterator[str]:
    """Remove the snapshots that rollouts took of data of releases that are not kept; yield them. Those stay for now
    whose environment somebody acts on, or is on another machine, or whose provider is not installed here, or cannot be
    asked now, or refuses it: that is said."""
    for one in environments_with_releases(workspace.ledger):
        state = one.state
        if not is_here(workspace, state) or find_provider(workspace, state.settings.provider) is None:
            continue
        if state.active is None and state.rollout is None:  # destroyed: as its volumes stay, so does what was kept
            continue
        try:
            if old_snapshots(workspace, state, retention.kept(state, one.releases, one.present)):
                yield from _old_snapshots(workspace, state.id, dry_run)
        except EnvironmentBusy:
            continue
        except (ProviderError, ComponentMissing, Refused) as error:
            text = f"snapshots of volumes of '{state.id}' stay: {error.message}"
            workspace.report(Progress(stage="gc", text=text, kind="warning"))


def _old_snapshots(workspace: Workspace, environment: EnvironmentId, dry_run: bool) -> list[str]:
    with hold_environment(workspace, environment, patient=False):
        (now,) = (it for it in environments_with_releases(workspace.ledger) if it.state.id == environment)
        old = old_snapshots(workspace, now.state, retention.kept(now.state, now.releases, now.present))
        if not dry_run:
            remove_snapshots(workspace, now.state, old)
        return [f"{one.environment} {one.volume} {one.number}" for one in old]


def _logs(workspace: Workspace, dry_run: bool) -> Iterator[str]:
    """Remove the logs of instances of releases that are not kept; yield the instances. Those stay whose provider is not
    installed here.

    Which instances there are is read first: one that is made after that is not among them, whatever it is of.
    """
    instances = {state.id: workspace.ledger.instance_releases(state.id) for state in workspace.ledger.environments()}
    for one in environments_with_releases(workspace.ledger):
        environment = one.state.id
        numbers = retention.with_logs(one.state, one.releases, one.present)
        keeper = find_provider(workspace, one.state.settings.provider)
        old = (name for name, number in instances.get(environment, ()) if number not in numbers)
        there = [name for name in old if keeper is not None and keeper.has_log(name)]
        if keeper is not None and there and not dry_run:
            keeper.forget_logs(there)
        yield from there


def _logs_of_removed(workspace: Workspace, dry_run: bool) -> Iterator[str]:
    """Remove the logs that destroyed environments left; yield the instances."""
    for provider, _, name in workspace.ledger.instances_of_removed():
        keeper = find_provider(workspace, provider)
        if keeper is not None and keeper.has_log(name):
            if not dry_run:
                keeper.forget_logs([name])
            yield name


def _recordings(workspace: Workspace, dry_run: bool) -> tuple[str, ...]:
    """Remove the recordings of instances whose logs are not kept, and the evidence of their drift; return the names.

    Files of nobody's stay.
    """
    names = {name for _, _, name in workspace.ledger.instances_of_removed()}
    for one in environments_with_releases(workspace.ledger):
        numbers = retention.with_logs(one.state, one.releases, one.present)
        instances = workspace.ledger.instance_releases(one.state.id)
        names |= {name for name, number in instances if number not in numbers}
    paths = [recording.path for recording in recordings.recordings(workspace.state, names)]
    paths += [path for path in sorted(workspace.state.evidence.glob("*.json")) if path.name.partition(".")[0] in names]
    for path in paths if not dry_run else ():
        path.unlink(missing_ok=True)
    return tuple(path.stem for path in paths)


def _fetched(workspace: Workspace, images: set[Digest], services: set[str] | None, *, dry_run: bool) -> tuple[int, int]:
    """Remove fetched files that nobody needs (all, when ``services`` are given); return how many, and their bytes.

    Where it is not known what a kept image needs (an older Instar baked it), none is removed. What is needed is
    remembered of the ``services`` (None: of all that were ever locked or baked) and the ``images``.
    """
    sizes, needs = workspace.cache.sizes(), Needs(workspace.state.cache)
    names, known = {digest.hex for digest in images}, needs.names()
    names |= {name for name in known if name.startswith("service-")} if services is None else _records_of(services)
    found = {name: needs.find(name) for name in names}
    keep = {digest for needed in found.values() for digest in needed or ()}
    unknown = sorted(name for name, needed in found.items() if needed is None)
    if services is not None:
        keep = set()
    elif unknown and sizes.keys() - keep:
        text = f"fetched files stay: it is not known which of them {_named(unknown[0])} needs"
        hint = "it is after the next bake of the same; instar gc --all removes all of them"
        workspace.report(Progress(stage="note", text=text, detail=(hint,)))
        keep = set(sizes)
    if not dry_run:
        workspace.cache.collect(keep)
        needs.forget(known - names)
    return len(sizes.keys() - keep), sum(size for digest, size in sizes.items() if digest not in keep)


def _named(record: str) -> str:
    return record if record.startswith("service-") else f"image {Digest.from_hex(record).short}"


def _records_of(services: set[str]) -> set[str]:
    return {f"service-{service}" for service in services}
