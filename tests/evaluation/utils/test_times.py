from evaluation.utils.times import clock


def test_clock():
    assert [clock(s) for s in (0, 59, 61, 119.7, 187, 3600)] == [
        '0:00', '0:59', '1:01', '2:00', '3:07', '60:00',
    ]  # fmt: skip
