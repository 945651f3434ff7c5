"""Identity: ids on the store outlive the program that made them."""

from pipeline.spec import digest, unit_id


def test_a_unit_id_is_the_digest_of_what_it_names() -> None:
    """It is spelled out for speed; another spelling would make every committed unit unknown."""
    segment = "0123456789abcdef" * 2
    assert [unit_id(segment, k) for k in (0, 7, 12345)] == [
        digest({"segment": segment, "k": k})[:32] for k in (0, 7, 12345)
    ]
