"""Control characters as pictures of them: a file name or an id must not steer the terminal that shows it."""

PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"}
PICTURES |= {0x7F: 0x2421, **dict.fromkeys(range(0x80, 0xA0), 0xFFFD)}
"""For `str.translate`; as long as before."""
