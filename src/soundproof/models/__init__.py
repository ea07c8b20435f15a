"""Models: one architecture a file, and the :class:`Victim` that wraps one with its front end."""

from soundproof.models._activity import mean_activation as mean_activation
from soundproof.models._adapted import Adapted as Adapted
from soundproof.models._adapted import AdaptedNetwork as AdaptedNetwork
from soundproof.models._adapted import adapt as adapt
from soundproof.models._evenness import Evenness as Evenness
from soundproof.models._hugging_face import HuggingFace as HuggingFace
from soundproof.models._hugging_face import is_hugging_face as is_hugging_face
from soundproof.models._hugging_face import load_hugging_face as load_hugging_face
from soundproof.models._limits import Limits as Limits
from soundproof.models._model import Backbone as Backbone
from soundproof.models._model import Model as Model
from soundproof.models._units import Units as Units
from soundproof.models._units import find_units as find_units
from soundproof.models._units import masked as masked
from soundproof.models._victim import Applied as Applied
from soundproof.models._victim import Network as Network
from soundproof.models._victim import Victim as Victim
