"""Networks cut and rearranged: pytrees in, pytrees out."""

from kdjax.surgery.choice import accuracies as accuracies
from kdjax.surgery.choice import choose as choose
from kdjax.surgery.choice import npsd as npsd
from kdjax.surgery.choice import rank_correlation as rank_correlation
from kdjax.surgery.choice import scores as scores
from kdjax.surgery.choice import tradeoff as tradeoff
from kdjax.surgery.choice import trials as trials
from kdjax.surgery.freezing import divided as divided
from kdjax.surgery.freezing import train_only as train_only
from kdjax.surgery.freezing import whole as whole
from kdjax.surgery.lora import adapted as adapted
from kdjax.surgery.lora import lora as lora
from kdjax.surgery.lora import merged as merged
from kdjax.surgery.many import copies as copies
from kdjax.surgery.many import nested as nested
from kdjax.surgery.prune import by_importance as by_importance
from kdjax.surgery.prune import gate as gate
from kdjax.surgery.prune import importance as importance
from kdjax.surgery.prune import keep_prefix as keep_prefix
from kdjax.surgery.prune import mask_prefix as mask_prefix
from kdjax.surgery.prune import permute_units as permute_units
from kdjax.surgery.prune import scaled as scaled
from kdjax.surgery.prune import widths as widths
from kdjax.surgery.shrinking import kept_layers as kept_layers
from kdjax.surgery.shrinking import shrink as shrink
