import pytest

from kdjax.report import lab_note, maths
from kdjax.report.markup import table, tag


@pytest.mark.parametrize(
    'plain, shown',
    [
        ('T^2 KL(p_T || p_S)', 'T<sup>2</sup> KL(p<sub>T</sub> ‖ p<sub>S</sub>)'),
        ('-|W f_S|^2 (x)^-1', '−|W f<sub>S</sub>|<sup>2</sup> (x)<sup>−1</sup>'),
        ('soft cross-entropy; L_D, x', 'soft cross-entropy; L<sub>D</sub>, x'),
        ('p_T^(T)', 'p<sub>T</sub><sup>(T)</sup>'),
        ('sum_{c != y} alpha_c -> 0', '∑<sub>c ≠ y</sub> α<sub>c</sub> → 0'),
        ('x_theta^{-1}', 'x<sub>θ</sub><sup>−1</sup>'),
        ('student_logits <= 1', 'student_logits ≤ 1'),
        ('+ sum over exits of -sum_c w_c', '+ sum over exits of −∑<sub>c</sub> w<sub>c</sub>'),
        ('a < b & c', 'a &lt; b &amp; c'),
    ],
)
def test_plain_maths_becomes_readable(plain, shown):
    assert maths.maths(plain) == shown


def test_a_docstring_becomes_paragraphs_maths_and_commands():
    note = (
        'What it asks.\n\nA paper (arXiv 1503.02531),\nwith `T^2`.\n\n'
        '    kd    T^2 KL\n\n    labels    CE\n\n    $ kdjax verify kd\n'
    )
    assert lab_note.blocks(note) == [
        (False, 'What it asks.'),
        (False, 'A paper (arXiv 1503.02531),\nwith `T^2`.'),
        (True, '    kd    T^2 KL\n\n    labels    CE\n\n    $ kdjax verify kd'),
    ]
    html = lab_note.render(
        'What it asks.\n\nA paper (arXiv 1503.02531), `T^2` with p_S and student_logits.\n\n    kd    T^2\n'
    )
    assert '<p class="lead">What it asks.</p>' in html
    assert '<a href="https://arxiv.org/abs/1503.02531">arXiv 1503.02531</a>' in html
    assert '<code>T^2</code> with p<sub>S</sub> and student_logits.' in html
    assert '<pre class="maths"><span>CE</span></pre>' in lab_note.render('What.\n\n    CE')
    assert '<pre tabindex="0">kdjax verify kd_x</pre>' in lab_note.render('What.\n\n    kdjax verify kd_x')
    assert '<pre class="maths" style="--hang: 6ch"><span>kd    T<sup>2</sup></span></pre>' in html


def test_plain_text_is_escaped_by_construction():
    assert tag('p', 'a <b>', class_='x"y') == '<p class="x&quot;y">a &lt;b&gt;</p>'
    assert tag('br') == '<br>'
    assert '<th scope="row">&lt;i&gt;</th><td>1</td>' in table(['arm', 'n'], [['<i>', '1']])
