"""The speed of matrix products is that of the largest one for which there is time."""

import pytest

from avem.train.run.flops import FIRST_SIZE, PEAK_PRODUCTS, PEAK_SECONDS, best_speed


class Device:
    """Computes at one speed, whatever the size; its first product takes longer."""

    def __init__(self, speed):
        self.speed, self.sizes, self.spent = speed, [], 0.0

    def product(self, size):
        taken = 2 * size**3 / self.speed + (0.5 if not self.sizes else 0.0)
        self.sizes.append(size)
        self.spent += taken
        return taken


@pytest.mark.parametrize(
    ("speed", "largest", "taken"), [(5e10, 1024, 1024), (1e9, 1024, 512), (2e7, 1024, 128), (6e13, 8192, 8192)]
)
def test_slow_devices_multiply_smaller_matrices(speed, largest, taken):
    device = Device(speed)
    assert best_speed(device.product, largest) == pytest.approx(speed)
    assert device.sizes[:2] == [FIRST_SIZE, FIRST_SIZE]
    assert max(device.sizes) == device.sizes[-1] == taken
    assert device.sizes.count(taken) >= PEAK_PRODUCTS
    if taken > FIRST_SIZE:
        assert device.spent < PEAK_SECONDS + 0.5 + 0.2


def test_the_best_of_a_few_counts():
    seconds = iter([9.0, 1.0, 0.04, 0.03, 0.02, 0.05, *[9.0] * 9])
    assert best_speed(lambda size: next(seconds), 128, seconds=1.0) == pytest.approx(2 * 128**3 / 0.02)
