"""The ranks that train one model together: processes that torchrun started. All of torch.distributed is here.

A process by itself is a world of one, in which nothing is sent and nothing waits.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from pipeline.model.infer import pick_device
from pipeline.setting_texts import SettingsError
from pipeline.torchrun import ElsewhereError, Place, place
from pipeline.train_settings import TrainSettings

Found = TypeVar("Found")

# A rank that ended is noticed at once. This is for one that goes on and does not come: longer than the first one takes
# to fit a decision layer, or to wait for a network drive.
PATIENCE = timedelta(hours=2)


@dataclass(frozen=True)
class Ranks:
    """This process' rank, counted from 0, of `size`. All ranks must call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this rank is the one that writes and speaks."""
        return self.rank == 0

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean of all ranks' tensors, without a gradient; alone, the tensor itself."""
        if self.size == 1:
            return tensor
        tensor = tensor.detach().clone()
        dist.all_reduce(tensor)
        return tensor / self.size

    def first(self, act: Callable[[], Found], told: Callable[[Found], Found] = lambda found: found) -> Found:
        """What `act` gives on the first rank, which alone calls it; told: what the others get of that.

        Raises what `act` raises; ElsewhereError on the other ranks.
        """
        if self.size == 1:
            return act()
        found: Any = None
        error: Exception | None = None
        if self.leads:
            found, error = _tried(act)
        content: list[Any] = [(error is None, None if found is None else told(found))]
        dist.broadcast_object_list(content, device=torch.device("cpu"))
        if error is not None:
            raise error
        succeeded, of_first = content[0]
        if not succeeded:
            raise ElsewhereError
        return found if self.leads else of_first

    def each(self, act: Callable[[], Found]) -> Found:
        """What `act` gives on this rank, if it succeeds on all. `act` must not call any of these methods.

        Raises what `act` raises on the first rank where it fails; ElsewhereError on all others.
        """
        if self.size == 1:
            return act()
        found, error = _tried(act)
        failed = [False] * self.size
        dist.all_gather_object(failed, error is not None)
        if any(failed):
            raise error if error is not None and failed.index(True) == self.rank else ElsewhereError
        return found

    def alike(self, error: Exception) -> Exception:
        """What to raise for an error that all ranks meet at the same time: the first one tells it."""
        return error if self.leads else ElsewhereError()

    def gather(self, own: Found) -> list[Found]:
        """What all ranks have, in their order, on the first; nothing on the others."""
        if self.size == 1:
            return [own]
        found: list[Any] = [None] * self.size if self.leads else []
        dist.gather_object(own, found if self.leads else None)
        return found

    def share(self, sizes: Sequence[int]) -> list[int]:
        """Indices of the tasks of these sizes that are this rank's; all ranks have about as much to do."""
        loads, own = [0] * self.size, []
        for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            least = loads.index(min(loads))
            loads[least] += sizes[i]
            if least == self.rank:
                own.append(i)
        return sorted(own)

    def deal(self, n_windows: int, batch_size: int) -> list[range]:
        """Of each batch of an epoch the places (in the epoch) of those windows that are this rank's, in turn.

        Of each whole batch as many; of the last one fewer, and maybe none.
        """
        starts = range(0, n_windows, batch_size)
        return [range(start + self.rank, min(start + batch_size, n_windows), self.size) for start in starts]

    def device(self, name: str) -> torch.device:
        """The device that --device names: of several ranks, each has a graphics card of its own, or all the processor.

        Raises SettingsError.
        """
        return pick_device(name) if self.size == 1 else _device_of(place(), name)

    def averaging(self, network: nn.Module, *, some_idle: bool) -> nn.Module:
        """The network, whose gradients will be the means over all ranks. Its weights become those of the first rank.

        Weights that do not learn when it is made must not begin to. some_idle: some that could learn are never used.
        """
        if self.size == 1:
            return network
        engine = nn.parallel.DistributedDataParallel
        options: dict[str, Any] = {"find_unused_parameters": some_idle}
        if "forward_sync_buffers" in inspect.signature(engine).parameters:  # not in older torch
            # Buffers stay as they are: no batch normalisation learns here (see `backbones`).
            options["forward_sync_buffers"] = False
        return engine(network, **options)


ALONE = Ranks()


@contextmanager
def world(device: str) -> Iterator[Ranks]:
    """The ranks that torchrun started, in touch with each other; without torchrun, this process alone.

    device: as --device names it. Raises SettingsError; ElsewhereError where another rank ended meanwhile.
    """
    here = place()
    if here.size == 1:
        yield ALONE
        return
    ranks = Ranks(here.rank, here.size)
    on_card = (chosen := ranks.device(device)).type == "cuda"
    if on_card:
        torch.cuda.set_device(chosen)
    done = False
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_card else "gloo", timeout=PATIENCE)
        yield ranks
        done = True
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise ElsewhereError from None
    finally:
        # After a failure others may still wait for this rank, and NCCL would wait for them; the end of the process
        # tells them.
        if dist.is_initialized() and (done or not on_card):
            dist.destroy_process_group()


def check_ranks(settings: TrainSettings) -> None:
    """Raises SettingsError where a batch has not a window for each rank, or its windows must be on one."""
    if (size := place().size) == 1:
        return
    if settings.batch_size < size:
        raise SettingsError(
            f"--batch-size {settings.batch_size}: the {size} ranks share each batch; expected {size} or more"
        )
    if settings.aug_mix:
        raise SettingsError(
            f"--aug-mix {settings.aug_mix:g}: mixes a window with another of its batch, which the {size} ranks share; "
            "train in one process, without torchrun, or leave it at 0"
        )


def _tried(act: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return act(), None
    except Exception as error:
        return None, error


def _device_of(here: Place, name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"--device {name}: with {here.size} ranks expected auto, cpu or cuda, a card for each rank")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if (cards := torch.cuda.device_count()) < here.local_size:
        raise SettingsError(
            f"--device {name}: {here.local_size} ranks on a machine with {cards} graphics cards; "
            f"start {cards} there (--nproc-per-node), or train with --device cpu"
        )
    return torch.device("cuda", here.local_rank)
