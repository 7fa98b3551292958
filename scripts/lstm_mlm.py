"""An LSTM masked language model in torch, with the names of its tensors as in the paper's released code.

    x = dropout(norm(word + position + segment))
    for each layer:  x = norm2(x + LSTM(norm1(x)))
    head, as BERT's: norm(gelu(dense(norm(x)))) times the table of words, plus a bias

LSTM is one layer of `torch.nn.LSTM`: of two directions with D / 2 units each, their outputs side by side (forward first),
or with `bidirectional = false` of one with D units. Padding is left out, so that the reverse direction begins at a
sentence's own last token. A folder of Lowland (`[model] type = "lstm"`) is read and written here:

    model = RNNLMHeadModel.from_pretrained("runs/NAME/model")
    logits = model(input_ids, attention_mask).logits        # [sentences, tokens, words]
    model.save_pretrained("FOLDER")

Needs torch and safetensors.
"""

import json
import pathlib
import types

import torch
from safetensors.torch import load_file, save_file
from torch import nn

ACTIVATIONS = {"gelu": nn.GELU(), "gelu_new": nn.GELU("tanh"), "relu": nn.ReLU(), "silu": nn.SiLU()}


class LstmConfig:
    """Keys of config.json with their defaults."""

    def __init__(self, **given):
        own = dict(
            model_type="lstm", architectures=["RNNLMHeadModel"], vocab_size=30522, hidden_size=768, num_hidden_layers=12,
            bidirectional=True, hidden_act="gelu", hidden_dropout_prob=0.1, max_position_embeddings=512,
            type_vocab_size=2, initializer_range=0.02, lstm_initializer_range=None, layer_norm_eps=1e-12,
            pad_token_id=0, tie_word_embeddings=True,
        )
        self.__dict__.update(own)
        self.__dict__.update(given)

    def to_dict(self):
        return {key: value for key, value in self.__dict__.items() if value is not None}


def initialise(config, model):
    """Tables and linear layers normal, the LSTMs uniform up to 1 / sqrt(units): torch's own, which the released
    initialiser leaves as it is."""
    for name, p in model.named_parameters():
        if ".lstm." in name:
            bound = config.lstm_initializer_range
            bound = (p.shape[0] // 4) ** -0.5 if bound is None else bound
            nn.init.uniform_(p, -bound, bound)
        elif "LayerNorm" in name:
            nn.init.constant_(p, 1.0 if name.endswith("weight") else 0.0)
        elif p.dim() == 1:
            nn.init.zeros_(p)
        else:
            nn.init.normal_(p, std=config.initializer_range)


class Embeddings(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.word_embeddings = nn.Embedding(c.vocab_size, c.hidden_size)
        self.position_embeddings = nn.Embedding(c.max_position_embeddings, c.hidden_size)
        self.token_type_embeddings = nn.Embedding(c.type_vocab_size, c.hidden_size)
        self.LayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.dropout = nn.Dropout(c.hidden_dropout_prob)

    def forward(self, ids, segments, positions):
        x = self.word_embeddings(ids) + self.position_embeddings(positions) + self.token_type_embeddings(segments)
        return self.dropout(self.LayerNorm(x))


class RNNLayer(nn.Module):
    def __init__(self, c):
        super().__init__()
        d = c.hidden_size
        self.PreAttentionLayerNorm = nn.LayerNorm(d, c.layer_norm_eps)
        units = d // 2 if c.bidirectional else d
        self.lstm = nn.LSTM(d, units, batch_first=True, bidirectional=c.bidirectional)
        self.PostAttentionLayerNorm = nn.LayerNorm(d, c.layer_norm_eps)

    def forward(self, x, lengths):
        # nn.LSTM reads a list that it made once: what stands in its parameters' places now counts (functional_call).
        self.lstm._flat_weights = [getattr(self.lstm, name) for name in self.lstm._flat_weights_names]
        h = self.PreAttentionLayerNorm(x)
        if lengths is None:
            return self.PostAttentionLayerNorm(x + self.lstm(h)[0])
        packed = nn.utils.rnn.pack_padded_sequence(h, lengths, batch_first=True, enforce_sorted=False)
        y, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.PostAttentionLayerNorm(x + y)


class RNNEncoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.layer = nn.ModuleList(RNNLayer(c) for _ in range(c.num_hidden_layers))
        self.FinalLayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)


class RNNModel(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.embeddings = Embeddings(c)
        self.encoder = RNNEncoder(c)

    def forward(self, ids, lengths, segments, positions):
        x = self.embeddings(ids, segments, positions)
        states = [x]
        for layer in self.encoder.layer:
            x = layer(x, lengths)
            states.append(x)
        return self.encoder.FinalLayerNorm(x), states


class Transform(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.dense_act = nn.Linear(c.hidden_size, c.hidden_size)
        self.LayerNorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.act = ACTIVATIONS[c.hidden_act]

    def forward(self, x):
        return self.LayerNorm(self.act(self.dense_act(x)))


class Predictions(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.transform = Transform(c)
        if c.tie_word_embeddings:
            self.bias = nn.Parameter(torch.zeros(c.vocab_size))
        else:
            self.decoder = nn.Linear(c.hidden_size, c.vocab_size)

    def forward(self, x, table):
        x = self.transform(x)
        return self.decoder(x) if hasattr(self, "decoder") else nn.functional.linear(x, table, self.bias)


class RNNLMHeadModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.rnn = RNNModel(config)
        self.cls = nn.Module()
        self.cls.predictions = Predictions(config)
        initialise(config, self)

    def encode(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None):
        """Sentences padded behind their last token: `last_hidden_state`, and `hidden_states` before the final norm."""
        lengths = None
        if attention_mask is not None:
            lengths = attention_mask.sum(1).cpu()
            assert (attention_mask.diff(dim=1) <= 0).all() and (lengths > 0).all(), "padding stands behind a sentence"
        segments = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        if position_ids is None:
            position_ids = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        x, states = self.rnn(input_ids, lengths, segments, position_ids)
        return types.SimpleNamespace(last_hidden_state=x, hidden_states=states)

    def head(self, hidden):
        """Logits of some rows."""
        return self.cls.predictions(hidden, self.rnn.embeddings.word_embeddings.weight)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, position_ids=None):
        """As `encode`, with `logits`, which say nothing where a token is padding."""
        out = self.encode(input_ids, attention_mask, token_type_ids, position_ids)
        out.logits = self.head(out.last_hidden_state)
        return out

    def save_pretrained(self, folder):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(self.config.to_dict(), indent=1) + "\n")
        tensors = {name: p.detach().contiguous() for name, p in self.named_parameters()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    @classmethod
    def from_pretrained(cls, folder, **_):
        folder = pathlib.Path(folder)
        model = cls(LstmConfig(**json.loads((folder / "config.json").read_text())))
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model
