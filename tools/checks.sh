# Sourced by dist.sh and slurm.sh: reports invalid settings in one line, with exit status 2.

fail() {
  echo "error: $1" >&2
  exit 2
}

positive_number() {  # positive_number NAME MEANING
  [[ ${!1} =~ ^[1-9][0-9]{0,5}$ ]] || fail "$1 is '${!1}'; give $2"
}

python_is_here() {
  command -v "$PYTHON" >/dev/null || fail "PYTHON is '$PYTHON', which was not found; set PYTHON=..."
}

analysis() {  # analysis NAME
  [[ $1 =~ ^(erf|invariance|robustness)$ ]] || fail "analysis is '$1'; give erf, invariance or robustness"
}
