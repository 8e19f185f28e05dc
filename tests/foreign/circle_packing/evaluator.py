"""Sum of radii of 26 circles; the program runs in a process of its own, with a time limit."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
import traceback

import numpy as np

TARGET_VALUE = float(os.environ.get("CIRCLE_PACKING_TARGET_VALUE", "2.635"))

SCRIPT = """
import sys, os, pickle, traceback
import numpy as np
sys.path.insert(0, os.path.dirname('{program}'))
print(f"Running in subprocess, Python version: {{sys.version}}")
try:
    util = __import__('importlib.util').util
    spec = util.spec_from_file_location("program", '{program}')
    program = util.module_from_spec(spec)
    spec.loader.exec_module(program)
    centers, radii, total = program.run_packing()
    with open('{results}', 'wb') as f:
        pickle.dump(dict(centers=centers, radii=radii, total=total), f)
except Exception as e:
    traceback.print_exc()
    with open('{results}', 'wb') as f:
        pickle.dump(dict(error=str(e)), f)
"""


class TimeoutError(Exception):
    pass


def run_with_timeout(program_path, timeout_seconds=20):
    with tempfile.NamedTemporaryFile(suffix=".py", delete=False) as temp_file:
        results_path = f"{temp_file.name}.results"
        script = SCRIPT.format(program=program_path, results=results_path)
        temp_file.write(script.encode())
        temp_file_path = temp_file.name
    try:
        process = subprocess.Popen(
            [sys.executable, temp_file_path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise TimeoutError(f"Process timed out after {timeout_seconds} seconds") from None
        print(f"Subprocess stdout: {stdout.decode()}")
        if stderr:
            print(f"Subprocess stderr: {stderr.decode()}")
        if process.returncode != 0:
            raise RuntimeError(f"Process exited with code {process.returncode}")
        with open(results_path, "rb") as f:
            results = pickle.load(f)
        if "error" in results:
            raise RuntimeError(f"Program execution failed: {results['error']}")
        return results["centers"], results["radii"], results["total"]
    finally:
        for path in (temp_file_path, results_path):
            if os.path.exists(path):
                os.unlink(path)


def validate_packing(centers, radii):
    if np.isnan(centers).any() or np.isnan(radii).any() or (radii < 0).any():
        return False
    for i in range(len(radii)):
        x, y = centers[i]
        r = radii[i]
        if x - r < -1e-6 or x + r > 1 + 1e-6 or y - r < -1e-6 or y + r > 1 + 1e-6:
            print(f"Circle {i} at ({x}, {y}) with radius {r} is outside the unit square")
            return False
        for j in range(i + 1, len(radii)):
            if np.linalg.norm(centers[i] - centers[j]) < r + radii[j] - 1e-6:
                print(f"Circles {i} and {j} overlap")
                return False
    return True


def evaluate(program_path):
    try:
        start = time.time()
        centers, radii, reported = run_with_timeout(program_path, timeout_seconds=30)
        centers, radii = np.asarray(centers), np.asarray(radii)
        valid = centers.shape == (26, 2) and radii.shape == (26,)
        valid = valid and validate_packing(centers, radii)
        total = float(np.sum(radii)) if valid else 0.0
        if abs(total - reported) > 1e-6:
            print(f"Warning: Reported sum {reported} doesn't match calculated sum {total}")
        return {
            "sum_radii": total,
            "target_ratio": total / TARGET_VALUE,
            "validity": 1.0 if valid else 0.0,
            "eval_time": float(time.time() - start),
            "combined_score": total / TARGET_VALUE,
        }
    except Exception as e:
        print(f"Evaluation failed completely: {e!s}")
        traceback.print_exc()
        return {"sum_radii": 0.0, "validity": 0.0, "eval_time": 0.0, "combined_score": 0.0}


def evaluate_stage1(program_path):
    try:
        centers, radii, _ = run_with_timeout(program_path, timeout_seconds=30)
        valid = validate_packing(np.asarray(centers), np.asarray(radii))
        ratio = float(np.sum(radii)) / TARGET_VALUE if valid else 0.0
        return {"validity": float(valid), "target_ratio": ratio, "combined_score": ratio}
    except TimeoutError as e:
        return {"validity": 0.0, "combined_score": 0.0, "error": f"Timeout: {e}"}
    except Exception as e:
        print(traceback.format_exc())
        return {"validity": 0.0, "combined_score": 0.0, "error": str(e)}


def evaluate_stage2(program_path):
    return evaluate(program_path)
