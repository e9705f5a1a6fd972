"""Running a function in several gloo processes that form one group, as `torchrun` would start them."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from torch_utils.distributed import join


def run_ranks(function: Callable[..., Any], size: int, *arguments: Any, timeout: float = 60) -> list[Any]:
    """Call `function(*arguments)` on every rank of a new group; returns the results in rank order.

    Processes are forked: they see everything that the test has made so far, monkeypatches too. (Where CUDA is in use they are spawned,
    which monkeypatches do not survive.) Results travel pickled; return plain numbers, or tensors of moderate size.

    Raises:
        AssertionError: a rank raised (its traceback is in the message), died, or did not finish in time; no process is left behind.
    """
    with socket.socket() as free:  # rank 0 meets the others there; a store of our own would have a thread, which forks do not survive
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn" if torch.cuda.is_initialized() else "fork")
    pipes = [context.Pipe(duplex=False) for _ in range(size)]
    processes = [
        context.Process(target=_rank, args=(function, arguments, rank, size, port, sender)) for rank, (_, sender) in enumerate(pipes)
    ]
    try:
        for process, (_, sender) in zip(processes, pipes, strict=True):
            process.start()
            sender.close()  # the child has its own: a rank that dies is seen as the end of its pipe
        return _collect([receiver for receiver, _ in pipes], time.monotonic() + timeout)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _collect(receivers: list[Connection], deadline: float) -> list[Any]:
    """One answer per rank; the first failure ends the wait."""
    results: dict[int, Any] = {}
    while len(results) < len(receivers):
        open_ = [receiver for rank, receiver in enumerate(receivers) if rank not in results]
        ready = wait(open_, max(deadline - time.monotonic(), 0))
        assert ready, f"ranks {sorted(set(range(len(receivers))) - set(results))} did not finish in time"
        for receiver in ready:
            rank = receivers.index(receiver)
            try:
                kind, value = pickle.loads(receiver.recv_bytes())
            except EOFError:
                raise AssertionError(f"rank {rank} died") from None
            assert kind == "result", f"rank {rank} failed:\n{value}"
            results[rank] = value
    return [results[rank] for rank in range(len(receivers))]


def _rank(function: Callable[..., Any], arguments: tuple[Any, ...], rank: int, size: int, port: int, sender: Connection) -> None:
    """What a child does."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    try:
        torch.set_num_threads(1)
        with join(torch.device("cpu")):
            result = function(*arguments)
        answer = ("result", result)
    except BaseException:
        answer = ("error", traceback.format_exc())
    sender.send_bytes(pickle.dumps(answer))  # by value: `send` would pass tensors on as shared memory, which ends with the process
    sender.close()
