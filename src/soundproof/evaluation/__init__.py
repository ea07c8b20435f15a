"""Evaluation: the only place where a trigger meets test clips."""

from soundproof.evaluation._examiner import CurvePoint as CurvePoint
from soundproof.evaluation._examiner import CurveProbe as CurveProbe
from soundproof.evaluation._examiner import Examiner as Examiner
from soundproof.evaluation._outcome import Outcome as Outcome
