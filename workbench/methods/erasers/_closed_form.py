"""Closed-form edits of the keys and values of cross-attention: what UCE, RECE and the null-space edit share.

edited     the weight that sends concept states to the outputs wanted of them and leaves preserved states alone
unread     the directions that some states do not span
token_rows which token states of a prompt are edited
pairs_of   (concept states, states whose outputs are wanted for them) of erasing pairs
"""

NAMES = (".attn2.to_k.weight", ".attn2.to_v.weight")


def edited_names(unet):
    """Names of the weights that are edited, without the `unet.` prefix."""
    return [name for name, _ in unet.named_parameters() if name.endswith(NAMES)]


def edited(weight, concepts, outputs, preserved, *, ridge, erase_scale, preserve_scale):
    """W <- (lam W + a sum_e v_e c_e^T + b sum_p W c_p c_p^T) (lam I + a sum_e c_e c_e^T + b sum_p c_p c_p^T)^-1, in float64.

    weight      (output, input) W;  concepts (e, input) c_e;  outputs (e, output) v_e;  preserved (p, input) c_p
    ridge       lam;  erase_scale a;  preserve_scale b
    returns     (output, input) in the type of `weight`
    Source      arXiv 2308.14761, Eq. 7, and its public code, which adds lam I
    """
    import torch

    own, c, v, p = (one.double() for one in (weight, concepts, outputs, preserved))
    unit = torch.eye(own.shape[1], dtype=torch.float64, device=own.device)
    left = ridge * own + erase_scale * v.T @ c + preserve_scale * own @ (p.T @ p)
    right = ridge * unit + erase_scale * c.T @ c + preserve_scale * p.T @ p
    return torch.linalg.solve(right, left.T).T.to(weight.dtype)  # right is symmetric


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
    """(prompt, token, channel) text states; SDXL's pooled state, which keys and values never see, is left out."""
    import torch

    from workbench.models import text

    with torch.no_grad():
        found = text.encode(model, list(prompts))
    return found[:, : model.tokenizer.model_max_length]


def pairs_of(model, pairs, tokens):
    """(concept states (row, channel), guide states (row, channel)) of erasing pairs.

    tokens   last: the last word of each side; rest: the last word and all tokens after it, as many as both sides have
    """
    import torch

    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    states, places = [states_of(model, side) for side in sides], [last_tokens(model.tokenizer, side) for side in sides]
    found = [], []
    for row, (own, guide) in enumerate(zip(*places, strict=True)):
        n = 1 if tokens == "last" else states[0].shape[1] - max(own, guide)
        found[0].append(states[0][row, own : own + n])
        found[1].append(states[1][row, guide : guide + n])
    return torch.cat(found[0]), torch.cat(found[1])


def preserved_of(model, prompts, tokens):
    """(row, channel) states of prompts to preserve: the last word of each, or the last word and all tokens after it."""
    import torch

    if not prompts:
        return states_of(model, [""])[0, :0]
    states, places = states_of(model, prompts), last_tokens(model.tokenizer, prompts)
    return torch.cat([states[row, at : at + 1 if tokens == "last" else None] for row, at in enumerate(places)])


def edited_model(model, weights, concepts, outputs_of, preserved, parameters):
    """{name: tensor}: every key and value weight edited once.

    weights      {name: weight as it is};  outputs_of(name) -> (row, output) wanted outputs
    """
    scale = parameters.preserve_scale if parameters.preserve_scale is not None else max(0.1, 1 / max(len(preserved), 1))
    given = {"ridge": parameters.ridge, "erase_scale": parameters.erase_scale, "preserve_scale": scale}
    return {name: edited(weight, concepts, outputs_of(name), preserved, **given) for name, weight in weights.items()}
