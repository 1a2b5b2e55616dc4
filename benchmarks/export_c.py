"""Measure the C export of the pre-trained LunarLander agent: time, memory, instructions on Cortex-M, and int8.

    python -m benchmarks.export_c

Needs gcc, arm-none-eabi-gcc with newlib, and qemu-system-arm (Debian: gcc, gcc-arm-none-eabi, libnewlib-arm-none-eabi,
qemu-system-arm).

Time on this machine is process CPU time per decision over the golden vectors: the median of rounds in which the library
and all builds take turns. Instructions on Cortex-M are counted by QEMU, where each instruction takes 1 ns of virtual
time (-icount shift=0). The timer SysTick measures this time. A loop with a known number of instructions checks it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from perilune import DQN
from perilune._utils.arrays import Array
from perilune._utils.blas import one_blas_thread
from perilune.export import c
from perilune.export.golden import golden_vectors
from perilune.export.policy import Policy, from_agent, q_values
from perilune.training.evaluation import evaluate

ENVIRONMENT = "LunarLander-v3"
BOARD = Path(__file__).parent / "board"
LEVELS = ("-O2", "-O3", "-O3 -march=native")
ROUNDS, DECISIONS = 15, 6_400
EPISODES = 100
SECTIONS = ("text", "rodata")  # code and constants
BOARDS = {
    "Cortex-M3": ("mps2-an385", "-mcpu=cortex-m3"),
    "Cortex-M4F": ("mps2-an386", "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16"),
    "Cortex-M7": ("mps2-an500", "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-sp-d16"),
}
"""The machine in QEMU and the options of the compiler."""


def output(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run([*command], cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def compiled(directory: Path, level: str) -> Callable[[], float]:
    """Return a function that runs decisions of a build and returns the microseconds of one."""
    name = f"host {level}"
    output("gcc", "-std=c99", *level.split(), "-I.", "-o", name, BOARD / "host.c", "policy.c", "-lm", cwd=directory)
    return lambda: float(output(directory / name, str(DECISIONS), cwd=directory).splitlines()[-1])


def library(agent: DQN, obs: Array) -> Callable[[], float]:
    """Return a function that runs decisions of the library and returns the microseconds of one."""

    def measure() -> float:
        start = time.process_time()
        for _ in range(DECISIONS // len(obs) // 10):
            for row in obs:
                agent.act(row)
        return (time.process_time() - start) * 1e6 / (DECISIONS // len(obs) // 10 * len(obs))

    return measure


def print_times(agent: DQN, obs: Array, directories: dict[str, Path]) -> None:
    """Print the time of a decision on this machine."""
    runs = {(name, level): compiled(path, level) for name, path in directories.items() for level in LEVELS}
    reference = library(agent, obs)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    references = []
    for _ in range(ROUNDS):
        references.append(reference())
        for key, run in runs.items():
            times[key].append(run())
    print(f"\nDQN.act: {median(references):.1f} microseconds\n")
    print("| weights | gcc | microseconds per decision | times faster than DQN.act | code | constants |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (name, level), measured in times.items():
        output("gcc", "-std=c99", *level.split(), "-c", "-o", "policy.o", "policy.c", cwd=directories[name])
        listed = output("size", "-A", "policy.o", cwd=directories[name])
        code, constants = (sum(map(int, re.findall(rf"^\.{kind}\S*\s+(\d+)", listed, re.M))) for kind in SECTIONS)
        ratio = median(references) / median(measured)
        print(f"| {name} | `{level}` | {median(measured):.2f} | {ratio:.0f} | {code:,} | {constants:,} |")


def print_boards(directories: dict[str, Path]) -> None:
    """Print memory and instructions of a decision on the emulated boards."""
    print("\n| processor | weights | flash | static RAM | stack | instructions per decision |")
    print("| --- | --- | --- | --- | --- | --- |")
    for processor, (machine, options) in BOARDS.items():
        for name, path in directories.items():
            text, data, bss, stack, instructions = measure_board(path, machine, options.split())
            print(f"| {processor} | {name} | {text + data:,} | {data + bss:,} | {stack:,} | {instructions:,} |")


def measure_board(directory: Path, machine: str, options: list[str]) -> tuple[int, int, int, int, int]:
    """Return text, data, bss and stack in bytes, and the instructions of a decision."""
    base = ["arm-none-eabi-gcc", "-std=gnu99", "-O2", "-mthumb", *options, "-ffunction-sections", "-fdata-sections"]
    base += ["-I.", "-nostartfiles", "-Wl,--gc-sections", "-T", str(BOARD / "board.ld")]
    sources: list[str | Path] = [BOARD / "startup.c", "policy.c", "-lm"]
    output(*base, "--specs=nano.specs", "-o", "firmware.elf", BOARD / "firmware.c", *sources, cwd=directory)
    output(*base, "--specs=rdimon.specs", "-o", "measure.elf", BOARD / "measure.c", *sources, cwd=directory)
    sizes = output("arm-none-eabi-size", "firmware.elf", cwd=directory).splitlines()[1].split()
    emulator = ["qemu-system-arm", "-machine", machine, "-nographic", "-monitor", "none", "-serial", "none"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-icount", "shift=0", "-kernel", "measure.elf"]
    printed = output(*emulator, cwd=directory)
    found = dict(re.findall(r"^([\w ]+): ([\d.]+)$", printed, re.M))
    if "OK: " not in printed or abs(float(found["instructions of a loop of 2"]) - 2) > 0.001:
        raise SystemExit(f"The self-test or the check of the instruction counter failed:\n{printed}")
    text, data, bss = map(int, sizes[:3])
    return text, data, bss, int(found["stack"]), int(found["instructions per decision"])


def print_returns(agent: DQN, policy: Policy) -> None:
    """Print the mean return with float32 and int8 weights, on the start states that scores are measured on."""
    rounded = c.quantized(policy)
    print(f"\n| weights | mean return of {EPISODES} episodes | lowest | standard error of the difference |")
    print("| --- | --- | --- | --- |")
    exact = evaluate(agent.agent.greedy_action, agent.env, EPISODES)
    print(f"| float32 | {exact.mean_return:.2f} | {exact.min_return:.2f} | |")
    result = evaluate(lambda obs: int(q_values(rounded, obs[None]).argmax()), agent.env, EPISODES)
    error = np.std(np.subtract(result.returns, exact.returns), ddof=1) / np.sqrt(EPISODES)
    print(f"| int8 | {result.mean_return:.2f} | {result.min_return:.2f} | {error:.2f} |")


def main() -> None:
    """Print all tables."""
    agent = DQN.pretrained(ENVIRONMENT)
    policy = from_agent(agent.agent, agent.env)
    golden = golden_vectors(agent.agent, agent.env, policy)
    with tempfile.TemporaryDirectory() as temporary:
        directories = {name: Path(temporary) / name for name in ("float32", "int8")}
        for name, directory in directories.items():
            directory.mkdir()
            for file, text in c.render(policy, golden, int8=name == "int8").items():
                (directory / file).write_text(text, encoding="utf-8")
        print_boards(directories)
        print_times(agent, golden.obs, directories)
    print_returns(agent, policy)


if __name__ == "__main__":
    with one_blas_thread():
        main()
