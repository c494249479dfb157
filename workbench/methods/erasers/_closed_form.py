"""Closed-form edits of the keys and values of cross-attention: what UCE, RECE and the null-space edit share.

readings   what an edit adds to a weight for each concept state
edited     the weight that sends concept states to the outputs wanted of them and leaves preserved states alone
unread     the directions that some states do not span
token_rows which token states of a prompt are edited
pairs_of   (concept states, states whose outputs are wanted for them) of erasing pairs
"""

NAMES = (".attn2.to_k.weight", ".attn2.to_v.weight")
TOGETHER = 2  # prompts that are encoded at a time
ROWS = 64  # of a weight that are held in float64 at a time


def edited_names(unet):
    """Names of the weights that are edited, without the `unet.` prefix."""
    return [name for name, _ in unet.named_parameters() if name.endswith(NAMES)]


def readings(concepts, preserved, *, ridge, erase_scale, preserve_scale):
    """(e, input) rows r_e = (lam I + a sum_e c_e c_e^T + b sum_p c_p c_p^T)^-1 c_e, in float64: the same for every weight.

    concepts   (e, input) c_e;  preserved (p, input) c_p;  ridge lam;  erase_scale a;  preserve_scale b
    """
    import torch

    c, p = concepts.double(), preserved.double()
    right = ridge * torch.eye(c.shape[1], dtype=torch.float64, device=c.device)
    right.addmm_(c.T, c, alpha=erase_scale).addmm_(p.T, p, alpha=preserve_scale)
    return torch.linalg.solve(right, c.T).T


def edited(weight, concepts, outputs, read, erase_scale):
    """W + a sum_e (v_e - W c_e) r_e^T, in float64, which is UCE's edit:

    (lam W + a sum_e v_e c_e^T + b sum_p W c_p c_p^T) (lam I + a sum_e c_e c_e^T + b sum_p c_p c_p^T)^-1

    weight      (output, input) W;  concepts (e, input) c_e;  outputs (e, output) v_e;  read (e, input) r_e of `readings`
    returns     (output, input) in the type of `weight`
    Source      arXiv 2308.14761, Eq. 7, and its public code, which adds lam I
    """
    import torch

    found, c = torch.empty_like(weight), concepts.double()
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        old = weight[rows].double()
        missing = outputs[:, rows].double() - c @ old.T
        found[rows] = old.addmm(missing.T, read, alpha=erase_scale)
    return found


def unread(states, tolerance):
    """(direction, channel) orthonormal directions in which states (row, channel) vary less than a share of their strongest direction.

    Eigenvectors of the second moment sum_p c_p c_p^T with an eigenvalue of at most `tolerance` times the largest, in float64.
    """
    import torch

    values, vectors = torch.linalg.eigh(states.double().T @ states.double())
    return vectors.T[values <= tolerance * values[-1].clamp(min=0)]


def last_tokens(tokenizer, prompts):
    """(prompt,) place of the last word of each prompt, start token counted as 0; 0 for the empty prompt."""
    most = tokenizer.model_max_length
    return [min(len(ids), most) - 2 for ids in tokenizer(list(prompts)).input_ids]


def states_of(model, prompts):
    """(token, channel) text states of one prompt after the other; SDXL's pooled state, which keys and values never see, is left out.

    A few prompts are encoded at a time: all at once would need memory for all their activations.
    """
    import torch

    from workbench.models import text

    for start in range(0, len(prompts), TOGETHER):
        with torch.no_grad():
            found = text.encode(model, list(prompts[start : start + TOGETHER]))
        yield from found[:, : model.tokenizer.model_max_length]


def pairs_of(model, pairs, tokens):
    """(concept states (row, channel), guide states (row, channel)) of erasing pairs.

    tokens   last: the last word of each side; rest: the last word and all tokens after it, as many as both sides have
    """
    import torch

    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    places = zip(*(last_tokens(model.tokenizer, side) for side in sides), strict=True)
    found = [], []
    for of_concept, of_guide, (own, guide) in zip(*(states_of(model, side) for side in sides), places, strict=True):
        n = 1 if tokens == "last" else len(of_concept) - max(own, guide)
        found[0].append(of_concept[own : own + n].clone())  # a view would keep all tokens
        found[1].append(of_guide[guide : guide + n].clone())
    return torch.cat(found[0]), torch.cat(found[1])


def preserved_of(model, prompts, tokens):
    """(row, channel) states of prompts to preserve: the last word of each, or the last word and all tokens after it."""
    import torch

    if not prompts:
        return next(states_of(model, [""]))[:0]
    places = last_tokens(model.tokenizer, prompts)
    found = zip(states_of(model, prompts), places, strict=True)
    return torch.cat([states[at : at + 1 if tokens == "last" else None].clone() for states, at in found])


def edited_model(model, weights, concepts, outputs_of, preserved, parameters):
    """{name: tensor}: every key and value weight edited once.

    weights      {name: weight as it is};  outputs_of(name) -> (row, output) wanted outputs
    """
    scale = parameters.preserve_scale if parameters.preserve_scale is not None else max(0.1, 1 / max(len(preserved), 1))
    given = {"ridge": parameters.ridge, "erase_scale": parameters.erase_scale, "preserve_scale": scale}
    read = readings(concepts, preserved, **given)
    return {name: edited(weight, concepts, outputs_of(name), read, parameters.erase_scale) for name, weight in weights.items()}
