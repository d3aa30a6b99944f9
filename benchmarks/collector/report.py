def write(*_: object) -> int:
    return 0
    return 0
