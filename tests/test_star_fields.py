"""The study of star fields on a tiny sample, through Kedro, with the real catalog."""

import contextlib
import io
import warnings

import pandas as pd
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

STUDY = "star_fields"
SMALL = {
    "simulation": {"n_fields": 8, "size": 96, "fields": {"density_range": [3.0, 6.0]}},
    "ingestion": {"tile": 48},
    "features": {"size": 48},
    "augmentation": {"seeds": [0, 1], "n_simulated": 4},
    "network": {"widths": [4, 8]},
    "training": {"epochs": 2, "steps_per_epoch": 6, "crop": 32},
    "baselines": {"n_trials": 3},
}
ARMS = ["01 observed", "02 simulated", "03 observed + simulated"]
FINDERS = ["SEP, tuned", "DAOFIND, tuned", "IRAF starfind, tuned"]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


def run(project, *pipelines, env="base", **runtime_params):
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bootstrap_project(project)
        runtime_params = {"cluster": {"n_workers": 0}, **runtime_params}
        with KedroSession.create(project, env=env, runtime_params=runtime_params) as session:
            session.run(pipeline_names=[f"{STUDY}{pipeline}" for pipeline in pipelines])
    return shown.getvalue()


@pytest.fixture(scope="module")
def finished(shared_project):
    """A finished run and what it printed."""
    path = shared_project / f"conf/base/{STUDY}/parameters.yml"
    content = yaml.safe_load(path.read_text())
    for section, values in SMALL.items():
        content[STUDY][section] = content[STUDY].get(section, {}) | values
    path.write_text(yaml.safe_dump(content))
    return shared_project, run(shared_project, ".simulation", "")


def reported(project, name):
    return pd.read_csv(project / "data/08_reporting" / STUDY / name)


def test_the_run_ends_with_a_table_and_the_paths(finished):
    project, shown = finished
    for words in ("F1 (95 %)", "completeness at 90 % purity", *ARMS, *FINDERS):
        assert words in shown
    page = (project / f"data/08_reporting/{STUDY}/report.html").read_text()
    for title in ("Known and predicted stars", "Purity against completeness", "Model info sheet"):
        assert title in page


def test_networks_and_finders_are_scored_on_the_same_fields(finished):
    project, _ = finished
    scores = reported(project, "success_rates.csv")
    assert scores["configuration"].tolist()[1:] == [*ARMS, *FINDERS]
    assert (scores["n_objects"] == scores["n_objects"].iloc[0]).all()
    assert scores["f1"].between(0, 1).all()
    assert (scores["f1_low"] <= scores["f1_high"]).all()


def test_every_configuration_has_a_workbook(finished):
    project, _ = finished
    folder = project / f"data/08_reporting/{STUDY}/predictions"
    assert len(list(folder.glob("*.xlsx"))) == 1 + len(ARMS) + len(FINDERS)
    book = pd.read_excel(next(folder.glob("01*.xlsx")), sheet_name=None)
    assert list(book) == ["stars", "fields", "false detections"]
    assert set(book["stars"]["field"]) <= set(book["fields"]["field"])
    assert book["fields"]["completeness"].dropna().between(0, 1).all()


def test_files_of_the_simulation_are_as_published(finished):
    project, _ = finished
    path = sorted((project / f"data/01_raw/{STUDY}/observations").glob("*.fits"))[0]
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "STAR_CATALOG"]
        assert {"CRVAL1", "SATURATE", "DATE-OBS"} <= set(hdus[0].header)


def test_a_folder_of_images_becomes_a_catalogue(finished):
    project, _ = finished
    run(project, ".prediction")
    folder = project / f"data/08_reporting/{STUDY}/prediction"
    stars, fields = (pd.read_csv(folder / name) for name in ("stars.csv", "fields.csv"))
    assert len(fields) == SMALL["simulation"]["n_fields"]
    assert set(stars["field"]) <= set(fields["field"])
    assert (folder / "stars.reg").read_text().count("circle(") == len(stars)
    for name in ("stars.fits", "stars.ecsv"):
        table = Table.read(folder / name)
        assert len(table) == len(stars)
        assert table["ra"].unit == "deg"
    # The files have their catalogues: magnitudes are of it.
    assert stars["in_catalogue"].any()
    assert fields["zero_point"].notna().any()


def test_one_image_may_stand_in_place_of_a_folder(finished):
    project, _ = finished
    path = sorted((project / f"data/01_raw/{STUDY}/observations").glob("*.fits"))[0]
    run(project, ".prediction", folder=str(path))
    fields = pd.read_csv(project / f"data/08_reporting/{STUDY}/prediction/fields.csv")
    assert fields["field"].tolist() == [path.stem]


def test_the_same_run_gives_the_same_table(finished):
    project, _ = finished
    before = reported(project, "success_rates.csv")
    run(project, "")
    pd.testing.assert_frame_equal(reported(project, "success_rates.csv"), before)


def test_fields_are_fetched_from_the_archives_and_then_read(project, sky_archives):
    archive = {
        "interval": 0, "retries": 0, "side": 0.1, "n_fields": 2, **sky_archives.addresses,
    }  # fmt: skip
    folder, made = project / "fields", project / f"data/01_raw/{STUDY}/downloads"
    options = {"folder": str(folder), STUDY: {"archive": archive, "ingestion": {"tile": 48}}}
    run(project, ".download", **options)
    drawn = pd.read_csv(made / "random_manifest.csv")
    assert drawn["status"].tolist() == ["fetched"] * 2
    (project / "list.csv").write_text("name,ra,dec\nA,150.1,20.5\nB,10 20 30,-30 00 00\nC,,\n")
    archive["id_column"] = "name"
    asked = len(sky_archives.asked)
    for status in ("fetched", "present"):
        run(project, ".download", sources=str(project / "list.csv"), **options)
        manifest = pd.read_csv(made / "list_manifest.csv")
        assert manifest["status"].tolist() == [status, status, "failed"]
        assert manifest["file"].tolist() == ["A.fits", "B.fits", "row 3"]
    assert len(sky_archives.asked) == asked + 7
    run(project, ".ingestion", env="real", **options)
    fields = pd.read_csv(project / f"data/real/02_intermediate/{STUDY}/fields.csv")
    assert {f"{name}.fits" for name in fields["id"]} == {p.name for p in folder.iterdir()}
    assert fields["usable"].all(), fields["reason"].tolist()
